// SPDX-License-Identifier: Apache-2.0
// Encodes and decodes for compare.py. Standard input: a kind (E encode, P encode plain, D decode, S
// decode as a stream cut at every token), a number of bytes, and a text or ids; standard output: a
// number of bytes, and ids or a text; ffffffff when it was refused. Numbers are of 32 bits, as the
// machine has them.
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "engine/tokenizer/tokenizer.h"

namespace eddy {
namespace {

bool ReadAll(void* data, size_t bytes) { return std::fread(data, 1, bytes, stdin) == bytes; }

void Answer(const void* data, size_t bytes) {
  const auto length = static_cast<uint32_t>(bytes);
  std::fwrite(&length, sizeof(length), 1, stdout);
  std::fwrite(data, 1, bytes, stdout);
}

void Refuse() {
  const uint32_t refused = 0xffffffff;
  std::fwrite(&refused, sizeof(refused), 1, stdout);
}

std::string Streamed(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  std::string text;
  Detokenizer detokenizer(tokenizer, /*at_beginning=*/true);
  for (const int32_t id : ids) {
    std::string piece;
    detokenizer.Feed(id, &piece);
    text += piece;
  }
  detokenizer.Finish(&text);
  return text;
}

void Serve(const Tokenizer& tokenizer) {
  char kind = 0;
  uint32_t bytes = 0;
  while (ReadAll(&kind, 1) && ReadAll(&bytes, sizeof(bytes))) {
    if (kind == 'E' || kind == 'P') {
      std::string text(bytes, '\0');
      if (!ReadAll(text.data(), bytes)) return;
      const auto ids = kind == 'E' ? tokenizer.Encode(text) : tokenizer.EncodePlain(text, true);
      ids.ok() ? Answer(ids->data(), ids->size() * sizeof(int32_t)) : Refuse();
    } else {
      std::vector<int32_t> ids(bytes / sizeof(int32_t));
      if (!ReadAll(ids.data(), bytes)) return;
      const auto text = kind == 'D' ? tokenizer.Decode(ids) : Streamed(tokenizer, ids);
      text.ok() ? Answer(text->data(), text->size()) : Refuse();
    }
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace eddy

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: tokenizer_pipe FOLDER\n";
    return 2;
  }
  const auto tokenizer = eddy::LoadTokenizer(argv[1]);
  if (!tokenizer.ok()) {
    std::cerr << std::string(tokenizer.status().message()) << "\n";
    return 1;
  }
  eddy::Serve(**tokenizer);
}
