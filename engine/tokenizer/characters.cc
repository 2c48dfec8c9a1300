// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/characters.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "engine/tokenizer/utf8.h"
#include "kernels/check.h"

namespace eddy {
namespace {

bool IsIn(char32_t character, char32_t first, char32_t last) {
  return first <= character && character <= last;
}

int CombiningClass(int32_t character) { return utf8proc_get_property(character)->combining_class; }

// All canonical decompositions; a character becomes at most four.
std::vector<int32_t> Decompose(std::string_view text) {
  std::vector<int32_t> characters(text.size() + 4);
  size_t count = 0, bytes = 0;
  for (size_t at = 0; at < text.size(); at += bytes) {
    const auto character = static_cast<int32_t>(DecodeCharacter(text.substr(at), &bytes));
    if (character < 0x80) {
      if (count == characters.size()) characters.resize(2 * count);
      characters[count++] = character;
      continue;
    }
    for (int boundary = 0;;) {
      const auto room = static_cast<utf8proc_ssize_t>(characters.size() - count);
      const utf8proc_ssize_t needed =
          utf8proc_decompose_char(character, &characters[count], room,
                                  static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE), &boundary);
      EDDY_CHECK(needed >= 0) << utf8proc_errmsg(needed);
      if (needed < room) {
        count += static_cast<size_t>(needed);
        break;
      }
      characters.resize(2 * characters.size());
    }
  }
  characters.resize(count);
  return characters;
}

}  // namespace

bool IsWhiteSpace(char32_t c) {
  return IsIn(c, 0x09, 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         IsIn(c, 0x2000, 0x200A) || IsIn(c, 0x2028, 0x2029) || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool IsWordCharacter(char32_t c) {
  switch (utf8proc_category(static_cast<int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:  // joiners, and the symbols that are Alphabetic: letters in circles and squares
      return IsIn(c, 0x200C, 0x200D) || IsIn(c, 0x24B6, 0x24E9) || IsIn(c, 0x1F130, 0x1F149) ||
             IsIn(c, 0x1F150, 0x1F169) || IsIn(c, 0x1F170, 0x1F189);
  }
}

char32_t LastCharacter(std::string_view text, size_t* bytes) {
  size_t at = text.size() - 1;
  while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) --at;
  return DecodeCharacter(text.substr(at), bytes);
}

std::string ToNfc(std::string_view text) {
  const auto is_ascii = [](char c) { return static_cast<uint8_t>(c) < 0x80; };
  if (std::all_of(text.begin(), text.end(), is_ascii)) return std::string(text);
  std::vector<int32_t> characters = Decompose(text);
  // utf8proc's own ordering takes a time that grows with the square of a run of marks.
  for (auto at = characters.begin(); at != characters.end();) {
    if (CombiningClass(*at) == 0) {
      ++at;
      continue;
    }
    const auto end =
        std::find_if(at, characters.end(), [](int32_t c) { return CombiningClass(c) == 0; });
    std::stable_sort(at, end,
                     [](int32_t a, int32_t b) { return CombiningClass(a) < CombiningClass(b); });
    at = end;
  }
  const utf8proc_ssize_t count =
      utf8proc_normalize_utf32(characters.data(), static_cast<utf8proc_ssize_t>(characters.size()),
                               static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  EDDY_CHECK(count >= 0) << utf8proc_errmsg(count);
  std::string composed;
  composed.reserve(text.size());
  for (utf8proc_ssize_t i = 0; i < count; ++i) {
    AppendUtf8(static_cast<char32_t>(characters[static_cast<size_t>(i)]), &composed);
  }
  return composed;
}

}  // namespace eddy
