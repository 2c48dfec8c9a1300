// SPDX-License-Identifier: Apache-2.0
// The tokenizer of RWKV's "World" models: a trie of bytes, the longest token at each place. No
// merges; any bytes can be encoded. Its one special token, of id 0, is not in the file:
// "<|rwkv_tokenizer_end_of_text|>", which no text contains.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/tokenizer/text_rules.h"
#include "engine/tokenizer/tokenizer.h"

namespace eddy {

// Reads rwkv_vocab_v20230424.txt: lines of an id, a Python literal (str or bytes) and its length in
// bytes. INVALID_ARGUMENT, naming file and line, for anything else, and unless every single byte is
// a token and each token has its own bytes. Rules that want tokens around a text are refused.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadWorldTokenizer(const std::string& path,
                                                              const TextRules& rules);

}  // namespace eddy
