// SPDX-License-Identifier: Apache-2.0
// UTF-8 as Unicode has it (table 3-7): no overlong forms, no surrogates, nothing past U+10FFFF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace eddy {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

// Bytes of the valid character that `text` begins with; 0 when it begins with none.
size_t ValidCharacterBytes(std::string_view text);
// The character that `text` begins with, which is valid; `bytes` are its bytes.
char32_t DecodeCharacter(std::string_view text, size_t* bytes);
void AppendUtf8(char32_t character, std::string* text);
// With U+FFFD for every maximal part that is not valid, as most decoders have it.
std::string WithReplacements(std::string_view text);

// Turns a stream of bytes into whole UTF-8: an unfinished character waits for its rest, an invalid
// byte becomes U+FFFD at once. Value type; holds at most three bytes. Not thread-safe.
class Utf8Stream {
 public:
  // What one U+FFFD stands for: the beginning of a character that did not go on (the maximal
  // subpart, as Unicode and WHATWG have it), or each single byte of it.
  enum class Invalid : uint8_t { kSubpart, kByte };
  explicit Utf8Stream(Invalid invalid = Invalid::kSubpart) : invalid_(invalid) {}

  // Appends to `text` what has become whole.
  void Feed(std::string_view bytes, std::string* text);
  // What was left unfinished, as U+FFFD.
  void Finish(std::string* text);

 private:
  Invalid invalid_;
  std::string pending_;
};

}  // namespace eddy
