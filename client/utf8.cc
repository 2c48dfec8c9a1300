// SPDX-License-Identifier: Apache-2.0
#include "client/utf8.h"

#include <cstdint>

namespace eddy {
namespace {

// Bytes of the sequence that `lead` begins, 0 if none; sets the range of its second byte, which
// alone rules out overlong forms, surrogates and code points above U+10FFFF.
size_t SequenceBytes(uint8_t lead, uint8_t* second_min, uint8_t* second_max) {
  *second_min = 0x80;
  *second_max = 0xBF;
  if (lead < 0x80) {
    return 1;
  }
  if (lead >= 0xC2 && lead <= 0xDF) {
    return 2;
  }
  if (lead >= 0xE0 && lead <= 0xEF) {
    if (lead == 0xE0) {
      *second_min = 0xA0;
    } else if (lead == 0xED) {
      *second_max = 0x9F;
    }
    return 3;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    if (lead == 0xF0) {
      *second_min = 0x90;
    } else if (lead == 0xF4) {
      *second_max = 0x8F;
    }
    return 4;
  }
  return 0;
}

}  // namespace

std::optional<size_t> FindInvalidUtf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    uint8_t byte_min = 0;
    uint8_t byte_max = 0;
    const size_t bytes = SequenceBytes(static_cast<uint8_t>(text[at]), &byte_min, &byte_max);
    if (bytes == 0 || bytes > text.size() - at) {
      return at;
    }
    for (size_t i = 1; i < bytes; ++i) {
      const uint8_t byte = static_cast<uint8_t>(text[at + i]);
      if (byte < byte_min || byte > byte_max) {
        return at;
      }
      byte_min = 0x80;
      byte_max = 0xBF;
    }
    at += bytes;
  }
  return std::nullopt;
}

}  // namespace eddy
