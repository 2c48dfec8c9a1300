// SPDX-License-Identifier: Apache-2.0
// The alphabet of byte-level BPE: each byte as a printable character. Bytes 33-126, 161-172 and
// 174-255 are the characters of the same number, the 68 others U+0100 and on, in rising order.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace eddy {

class ByteAlphabet {
 public:
  static constexpr char32_t kCharacterEnd = 0x100 + 68;

  static void Append(uint8_t byte, std::string* text) {
    const char32_t c = kCharacter[byte];
    if (c < 0x80) {
      text->push_back(static_cast<char>(c));
    } else {
      text->push_back(static_cast<char>(0xC0 | c >> 6));
      text->push_back(static_cast<char>(0x80 | (c & 0x3F)));
    }
  }
  // -1 for a character that stands for no byte.
  static int Byte(char32_t character) { return character < kCharacterEnd ? kByte[character] : -1; }

 private:
  static constexpr bool IsPrintable(int byte) {
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  }
  static constexpr std::array<char32_t, 256> MakeCharacters() {
    std::array<char32_t, 256> characters = {};
    char32_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      characters[static_cast<size_t>(byte)] =
          IsPrintable(byte) ? static_cast<char32_t>(byte) : next++;
    }
    return characters;
  }
  static constexpr std::array<int16_t, kCharacterEnd> MakeBytes() {
    std::array<int16_t, kCharacterEnd> bytes = {};
    for (int16_t& byte : bytes) byte = -1;
    const std::array<char32_t, 256> characters = MakeCharacters();
    for (size_t byte = 0; byte < 256; ++byte) {
      bytes[characters[byte]] = static_cast<int16_t>(byte);
    }
    return bytes;
  }

  static const std::array<char32_t, 256> kCharacter;
  static const std::array<int16_t, kCharacterEnd> kByte;
};

inline constexpr std::array<char32_t, 256> ByteAlphabet::kCharacter = MakeCharacters();
inline constexpr std::array<int16_t, ByteAlphabet::kCharacterEnd> ByteAlphabet::kByte = MakeBytes();

}  // namespace eddy
