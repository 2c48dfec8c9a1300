#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# usage: kernel_symbols_test.sh NM "v2 objects;..." "v3 objects;..." "v4 objects;..." "v4dot objects;..."
# Fails when an object defines a symbol outside its target's namespace that the linker can see, or runs code when
# the program starts.
nm=$1
failures=0
for pair in "v2 $2" "v3 $3" "v4 $4" "v4dot $5"; do
  target=${pair%% *}
  objects=$(echo "${pair#* }" | tr ';' ' ')
  # shellcheck disable=SC2086
  symbols=$("$nm" -C --defined-only $objects) || exit 1
  own=$(echo "$symbols" | grep -c "eddy::cpu::$target::kOps")
  if [ "$own" -ne 1 ]; then
    echo "$target defines kOps $own times, not once"
    failures=1
  fi
  strangers=$(echo "$symbols" | grep -E '^[0-9a-f]* +[A-Zu] ' | grep -v "eddy::cpu::$target::" |
    grep -vE ' (__odr_asan|__asan|__tsan|__ubsan|DW\.ref)')
  if [ -n "$strangers" ]; then
    echo "$target defines for everyone:"
    echo "$strangers"
    failures=1
  fi
  # A sanitizer starts up in each of its objects; nothing else may.
  starters=$(echo "$symbols" | grep -E '_GLOBAL__sub_I|__static_initialization')
  if [ -n "$starters" ]; then
    echo "$target runs code at start:"
    echo "$starters"
    failures=1
  fi
done
exit $failures
