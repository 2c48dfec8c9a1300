// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/utf8.h"

namespace eddy {
namespace {

bool IsContinuation(uint8_t byte) { return byte >= 0x80 && byte <= 0xBF; }

// Bytes of the character that begins with `lead`; 0 when none does.
size_t CharacterBytes(uint8_t lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return 2;
  if (lead >= 0xE0 && lead <= 0xEF) return 3;
  if (lead >= 0xF0 && lead <= 0xF4) return 4;
  return 0;  // a continuation, an overlong form, or beyond U+10FFFF
}

// Whether `second` may follow `lead` (Unicode, table 3-7): no overlong forms, no surrogates,
// nothing past U+10FFFF.
bool MayFollowLead(uint8_t lead, uint8_t second) {
  switch (lead) {
    case 0xE0:
      return second >= 0xA0 && second <= 0xBF;
    case 0xED:
      return second >= 0x80 && second <= 0x9F;
    case 0xF0:
      return second >= 0x90 && second <= 0xBF;
    case 0xF4:
      return second >= 0x80 && second <= 0x8F;
    default:
      return IsContinuation(second);
  }
}

}  // namespace

size_t ValidCharacterBytes(std::string_view text) {
  if (text.empty()) return 0;
  const uint8_t lead = static_cast<uint8_t>(text[0]);
  const size_t count = CharacterBytes(lead);
  if (count < 2) return count;
  if (text.size() < count || !MayFollowLead(lead, static_cast<uint8_t>(text[1]))) return 0;
  for (size_t i = 2; i < count; ++i) {
    if (!IsContinuation(static_cast<uint8_t>(text[i]))) return 0;
  }
  return count;
}

char32_t DecodeCharacter(std::string_view text, size_t* bytes) {
  const uint8_t lead = static_cast<uint8_t>(text[0]);
  *bytes = CharacterBytes(lead);
  if (*bytes == 1) return lead;
  char32_t character = lead & (0x7Fu >> *bytes);
  for (size_t i = 1; i < *bytes; ++i) {
    character = character << 6 | (static_cast<uint8_t>(text[i]) & 0x3Fu);
  }
  return character;
}

void AppendUtf8(char32_t character, std::string* text) {
  const auto push = [text](char32_t byte) { text->push_back(static_cast<char>(byte)); };
  if (character < 0x80) return push(character);
  if (character < 0x800) {
    push(0xC0 | character >> 6);
  } else if (character < 0x10000) {
    push(0xE0 | character >> 12);
    push(0x80 | (character >> 6 & 0x3F));
  } else {
    push(0xF0 | character >> 18);
    push(0x80 | (character >> 12 & 0x3F));
    push(0x80 | (character >> 6 & 0x3F));
  }
  push(0x80 | (character & 0x3F));
}

std::string WithReplacements(std::string_view text) {
  std::string valid;
  valid.reserve(text.size());
  Utf8Stream stream;
  stream.Feed(text, &valid);
  stream.Finish(&valid);
  return valid;
}

// pending_ is always the beginning of a valid character. A byte that cannot go on with it ends it
// and is looked at anew.
void Utf8Stream::Feed(std::string_view bytes, std::string* text) {
  for (const char c : bytes) {
    const uint8_t byte = static_cast<uint8_t>(c);
    if (!pending_.empty()) {
      const uint8_t lead = static_cast<uint8_t>(pending_[0]);
      const bool goes_on = pending_.size() == 1 ? MayFollowLead(lead, byte) : IsContinuation(byte);
      if (goes_on) {
        pending_.push_back(c);
        if (pending_.size() == CharacterBytes(lead)) {
          text->append(pending_);
          pending_.clear();
        }
        continue;
      }
      Finish(text);
    }
    switch (CharacterBytes(byte)) {
      case 0:
        text->append(kReplacementCharacter);
        break;
      case 1:
        text->push_back(c);
        break;
      default:
        pending_.push_back(c);
        break;
    }
  }
}

void Utf8Stream::Finish(std::string* text) {
  const size_t count = invalid_ == Invalid::kByte ? pending_.size() : !pending_.empty();
  for (size_t i = 0; i < count; ++i) text->append(kReplacementCharacter);
  pending_.clear();
}

}  // namespace eddy
