// SPDX-License-Identifier: Apache-2.0
// The parts of tokenizers where the goldens do not reach.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <vector>

#include "engine/tokenizer/added_tokens.h"
#include "engine/tokenizer/bpe.h"
#include "engine/tokenizer/byte_tokenizer.h"
#include "engine/tokenizer/byte_trie.h"
#include "engine/tokenizer/character_tokenizer.h"
#include "engine/tokenizer/characters.h"
#include "engine/tokenizer/json_view.h"
#include "engine/tokenizer/merge_queue.h"
#include "engine/tokenizer/normaliser.h"
#include "engine/tokenizer/post_processor.h"
#include "engine/tokenizer/pre_tokenizer.h"
#include "engine/tokenizer/sentencepiece_cut.h"
#include "engine/tokenizer/sentencepiece_normaliser.h"
#include "engine/tokenizer/text_rules.h"
#include "engine/tokenizer/token_decoder.h"

namespace eddy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::string kFile = "t.json";

std::string Message(const absl::Status& status) { return std::string(status.message()); }

// ---- ByteTrie ----

TEST(ByteTrieTest, FindsTheLongestAmongRandomStrings) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    std::map<std::string, int32_t> strings;
    std::vector<std::pair<std::string, int32_t>> entries;
    for (int i = 0; i < 30; ++i) {
      std::string text(random() % 5, 'a');
      for (char& c : text) c = "ab\xff"[random() % 3];
      if (strings.emplace(text, i).second) entries.emplace_back(text, i);
    }
    const ByteTrie trie(entries);
    for (int i = 0; i < 50; ++i) {
      std::string text(random() % 8, 'a');
      for (char& c : text) c = "ab\xff"[random() % 3];
      ByteTrie::Match expected;
      for (size_t n = 1; n <= text.size(); ++n) {
        const auto found = strings.find(text.substr(0, n));
        if (found != strings.end()) expected = {found->second, n};
      }
      const ByteTrie::Match match = trie.Longest(text);
      ASSERT_EQ(match.value, expected.value);
      ASSERT_EQ(match.bytes, expected.bytes);
    }
  }
  EXPECT_TRUE(ByteTrie().empty());
  EXPECT_EQ(ByteTrie().Longest("a").bytes, 0u);
}

// ---- MergeQueue ----

// The rule as it is stated: merge the pair of the lowest rank, the leftmost of equals, until none
// is left.
TEST(MergeQueueTest, MergesAsTheRuleSays) {
  std::mt19937 random(2);
  for (int round = 0; round < 300; ++round) {
    std::map<std::pair<int32_t, int32_t>, PairMerge> merges;
    for (int32_t i = 0; i < 12; ++i) {
      merges[{static_cast<int32_t>(random() % 8), static_cast<int32_t>(random() % 8)}] = {
          static_cast<int32_t>(random() % 6), 4 + i % 5};
    }
    const auto lookup = [&](int32_t left, int32_t right) -> std::optional<PairMerge> {
      const auto found = merges.find({left, right});
      return found == merges.end() ? std::nullopt : std::optional(found->second);
    };
    std::vector<Symbol> symbols(1 + random() % 20);
    std::vector<int32_t> naive;
    for (Symbol& symbol : symbols) {
      symbol.id = static_cast<int32_t>(random() % 4);
      symbol.bytes = 1;
      naive.push_back(symbol.id);
    }
    for (bool merged = true; merged;) {
      merged = false;
      std::optional<PairMerge> best;
      size_t at = 0;
      for (size_t i = 0; i + 1 < naive.size(); ++i) {
        const auto merge = lookup(naive[i], naive[i + 1]);
        if (merge && (!best || merge->rank < best->rank)) {
          best = merge;
          at = i;
        }
      }
      if (best) {
        naive[at] = best->id;
        naive.erase(naive.begin() + static_cast<std::ptrdiff_t>(at) + 1);
        merged = true;
      }
    }
    LinkSymbols(symbols);
    MergeQueue().Run(symbols, [&](const Symbol& a, const Symbol& b) { return lookup(a.id, b.id); });
    std::vector<int32_t> merged;
    for (int32_t i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].next) {
      merged.push_back(symbols[static_cast<size_t>(i)].id);
    }
    ASSERT_EQ(merged, naive) << round;
  }
}

// ---- characters ----

TEST(CharactersTest, Nfc) {
  EXPECT_EQ(ToNfc("plain"), "plain");
  EXPECT_EQ(ToNfc("e\u0301"), "\u00e9");
  EXPECT_EQ(ToNfc("s\u0307\u0323"), "\u1e69");                   // reordered, then composed
  EXPECT_EQ(ToNfc("\u1100\u1161\u11a8"), "\uac01");              // Hangul
  EXPECT_EQ(ToNfc("\u212b\u2126"), "\u00c5\u03a9");              // singletons
  EXPECT_EQ(ToNfc("\u0958\u0344"), "\u0915\u093c\u0308\u0301");  // excluded from composition
  const std::string many(3, 'a');
  EXPECT_EQ(ToNfc("\u0301" + many), "\u0301aaa");
}

TEST(CharactersTest, Classes) {
  for (const char32_t c : {U' ', U'\n', U'\u0085', U'\u3000', U'\u2028'}) {
    EXPECT_TRUE(IsWhiteSpace(c));
  }
  for (const char32_t c : {U'a', U'\u180e', U'\u200b', U'\0'}) EXPECT_FALSE(IsWhiteSpace(c));
  for (const char32_t c : {U'a', U'_', U'9', U'\u00e9', U'\u0301', U'\u200d', U'\u24b6'}) {
    EXPECT_TRUE(IsWordCharacter(c));
  }
  for (const char32_t c : {U' ', U'-', U'\u00bd', U'\U0001F600'}) EXPECT_FALSE(IsWordCharacter(c));
  size_t bytes = 0;
  EXPECT_EQ(LastCharacter("a\u20ac", &bytes), U'\u20ac');
  EXPECT_EQ(bytes, 3u);
}

// ---- PreTokenizer ----

std::vector<std::string> Cut(const nlohmann::json& json, const std::string& text,
                             bool at_beginning = true) {
  const auto pre_tokenizer = PreTokenizer::Read(JsonView(json, kFile, "pre_tokenizer"));
  EXPECT_TRUE(pre_tokenizer.ok()) << pre_tokenizer.status();
  const auto words = pre_tokenizer->Apply(text, at_beginning);
  EXPECT_TRUE(words.ok()) << words.status();
  std::vector<std::string> result;
  for (const Words::Span& span : words->spans) result.emplace_back(words->Word(span));
  return result;
}

TEST(PreTokenizerTest, MetaspaceAtTheBeginningOnly) {
  const nlohmann::json first = {
      {"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "first"}};
  EXPECT_THAT(Cut(first, "a b"), ElementsAre("_a", "_b"));
  EXPECT_THAT(Cut(first, "a b", false), ElementsAre("a", "_b"));
  EXPECT_THAT(Cut(first, " a"), ElementsAre("_a"));
  nlohmann::json whole = first;
  whole["split"] = false;
  EXPECT_THAT(Cut(whole, "a b"), ElementsAre("_a_b"));
  // Behind another step only the first word is at the beginning.
  const nlohmann::json split = {
      {"type", "Split"}, {"pattern", {{"String", "-"}}}, {"behavior", "Removed"}};
  const nlohmann::json both = {{"type", "Sequence"}, {"pretokenizers", {split, first}}};
  EXPECT_THAT(Cut(both, "a-b"), ElementsAre("_a", "b"));
  EXPECT_THAT(Cut(both, "-b"), ElementsAre("b"));
  const nlohmann::json never = {
      {"type", "Metaspace"}, {"replacement", "_"}, {"add_prefix_space", false}};
  EXPECT_THAT(Cut(never, "a b"), ElementsAre("a", "_b"));
}

TEST(PreTokenizerTest, SplitsAndRemoves) {
  nlohmann::json split = {
      {"type", "Split"}, {"pattern", {{"Regex", "\\p{N}"}}}, {"behavior", "Isolated"}};
  EXPECT_THAT(Cut(split, "a12b"), ElementsAre("a", "1", "2", "b"));
  split["behavior"] = "Removed";
  EXPECT_THAT(Cut(split, "a12b"), ElementsAre("a", "b"));
  split["invert"] = true;
  EXPECT_THAT(Cut(split, "a12b"), ElementsAre("1", "2"));
  EXPECT_THAT(Cut({{"type", "Digits"}}, "a12b"), ElementsAre("a", "12", "b"));
  EXPECT_THAT(Cut(nullptr, "a 1"), ElementsAre("a 1"));
  EXPECT_THAT(Cut(nullptr, ""), ElementsAre());
}

TEST(PreTokenizerTest, RefusesByName) {
  const std::pair<nlohmann::json, const char*> kCases[] = {
      {{{"type", "Whitespace"}}, "pre_tokenizer.type is \"Whitespace\", which is not supported"},
      {{{"type", "Split"}, {"pattern", {{"Regex", "a"}}}, {"behavior", "MergedWithNext"}},
       "behavior is \"MergedWithNext\", which is not supported"},
      {{{"type", "Split"}, {"pattern", "a"}, {"behavior", "Isolated"}}, "expected an object"},
      {{{"type", "Split"}, {"pattern", {{"Regex", "\\w"}}}, {"behavior", "Isolated"}},
       "this is not supported"},
      {{{"type", "Metaspace"}, {"replacement", "ab"}}, "expected one character"},
      {{{"type", "Metaspace"}, {"replacement", "a"}, {"prepend_scheme", "last"}},
       "expected always, first or never"},
      {{{"type", "Metaspace"},
        {"replacement", "a"},
        {"add_prefix_space", false},
        {"prepend_scheme", "always"}},
       "expected never"},
      {{{"type", "Sequence"}, {"pretokenizers", 3}}, "expected a list"},
      {3, "type is missing"}};
  for (const auto& [json, part] : kCases) {
    const auto read = PreTokenizer::Read(JsonView(json, kFile, "pre_tokenizer"));
    ASSERT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument) << json;
    EXPECT_THAT(Message(read.status()), HasSubstr(part));
    EXPECT_THAT(Message(read.status()), HasSubstr("t.json: pre_tokenizer"));
  }
}

// ---- Normaliser ----

TEST(NormaliserTest, AppliesItsStepsInOrder) {
  const nlohmann::json prepend = {{"type", "Prepend"}, {"prepend", "_"}};
  const nlohmann::json replace = {
      {"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "__"}};
  const nlohmann::json json = {{"type", "Sequence"},
                               {"normalizers", {{{"type", "NFC"}}, prepend, replace}}};
  const auto normaliser = Normaliser::Read(JsonView(json, kFile));
  ASSERT_TRUE(normaliser.ok()) << normaliser.status();
  EXPECT_EQ(*normaliser->Apply("e\u0301 x"), "_\u00e9__x");
  EXPECT_EQ(*normaliser->Apply(""), "");
}

TEST(NormaliserTest, RefusesByNameAndWhatGrowsTooMuch) {
  for (const char* const type : {"Lowercase", "NFKC", "Precompiled"}) {
    const nlohmann::json json = {{"type", type}};
    EXPECT_THAT(Message(Normaliser::Read(JsonView(json, kFile, "normalizer")).status()),
                HasSubstr(std::string("normalizer.type is \"") + type + "\", which is not supp"));
  }
  const nlohmann::json regex = {
      {"type", "Replace"}, {"pattern", {{"Regex", "a"}}}, {"content", ""}};
  EXPECT_THAT(Message(Normaliser::Read(JsonView(regex, kFile)).status()), HasSubstr("not a Regex"));
  const nlohmann::json step = {
      {"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", std::string(64, 'a')}};
  const nlohmann::json bomb = {
      {"type", "Sequence"}, {"normalizers", nlohmann::json::array({step, step, step, step, step})}};
  const auto normaliser = Normaliser::Read(JsonView(bomb, kFile, "normalizer"));
  ASSERT_TRUE(normaliser.ok()) << normaliser.status();
  EXPECT_THAT(Message(normaliser->Apply("aaaa").status()), HasSubstr("grows beyond"));
}

// ---- Bpe ----

// As a file has it: whole numbers are unsigned.
absl::StatusOr<Bpe> ReadBpe(const nlohmann::json& json) {
  const nlohmann::json parsed = nlohmann::json::parse(json.dump());
  return Bpe::Read(JsonView(parsed, kFile, "model"));
}

TEST(BpeTest, UnknownCharacters) {
  nlohmann::json json = {{"type", "BPE"},
                         {"vocab", {{"a", 0}, {"?", 1}, {"<0xC3>", 2}, {"<0xA9>", 3}, {"aa", 4}}},
                         {"merges", {"a a"}},
                         {"unk_token", "?"},
                         {"byte_fallback", true}};
  const auto encode = [&](std::string_view text) {
    const auto bpe = ReadBpe(json);
    EXPECT_TRUE(bpe.ok()) << bpe.status();
    Bpe::Work work;
    std::vector<int32_t> ids;
    bpe->Encode(text, &work, &ids);
    return ids;
  };
  EXPECT_THAT(encode("aaa\u00e9"), ElementsAre(4, 0, 2, 3));
  EXPECT_THAT(encode("xya"), ElementsAre(1, 1, 0));  // no bytes for these two
  json["fuse_unk"] = true;
  EXPECT_THAT(encode("xya"), ElementsAre(1, 0));
  json["unk_token"] = nullptr;
  EXPECT_THAT(encode("xya"), ElementsAre(0));
}

TEST(BpeTest, RefusesByName) {
  const nlohmann::json sound = nlohmann::json::parse(
      R"({"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]})");
  ASSERT_TRUE(ReadBpe(sound).ok()) << ReadBpe(sound).status();
  const std::pair<const char*, const char*> kCases[] = {
      {R"({"type": "Unigram"})", "model.type is \"Unigram\", which is not supported; expected"},
      {R"({"dropout": 0.1})", "model.dropout is 0.1, expected null"},
      {R"({"end_of_word_suffix": "</w>"})", "model.end_of_word_suffix is \"</w>\", which is not"},
      {R"({"continuing_subword_prefix": "##"})", "which is not supported"},
      {R"({"vocab": null})", "model.vocab is missing"},
      {R"({"vocab": {"a": -1}})", "\"a\" is -1, expected tokens"},
      {R"({"vocab": {"a": 16777216}})", "with ids from 0 to 16777215"},
      {R"({"vocab": {"a": 0, "b": 0, "ab": 1}})", "which another token is, too"},
      {R"({"merges": ["a b c"]})", "model.merges[0] is \"a b c\", expected \"left right\""},
      {R"({"merges": [["a", "x"]]})", "expected two tokens of the vocabulary"},
      {R"({"merges": [["b", "a"]]})", "both together another one"},
      {R"({"merges": "x"})", "model.merges is \"x\", expected a list"},
      {R"({"unk_token": "zz"})", "expected a token of the vocabulary"},
      {R"({"byte_fallback": 1})", "model.byte_fallback is 1, expected true or false"}};
  for (const auto& [patch, part] : kCases) {
    nlohmann::json json = sound;
    json.update(nlohmann::json::parse(patch));
    const auto read = ReadBpe(json);
    ASSERT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument) << patch;
    EXPECT_THAT(Message(read.status()), HasSubstr(part));
  }
}

// ---- TokenDecoder ----

TEST(TokenDecoderTest, RefusesByName) {
  const nlohmann::json fuse = {{"type", "Fuse"}}, fallback = {{"type", "ByteFallback"}};
  const nlohmann::json strip = {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}};
  const std::pair<nlohmann::json, const char*> kCases[] = {
      {{{"type", "WordPiece"}}, "decoder.type is \"WordPiece\", which is not supported"},
      {nullptr, "decoder.type is missing"},
      {{{"type", "Sequence"}, {"decoders", {fuse, fallback}}}, "not supported behind Fuse"},
      {{{"type", "Sequence"}, {"decoders", nlohmann::json::array({strip})}}, "behind Fuse"},
      {{{"type", "Sequence"}, {"decoders", {{{"type", "CTC"}}, fuse}}}, "not supported here"}};
  for (const auto& [json, part] : kCases) {
    const auto read = TokenDecoder::Read(JsonView(json, kFile, "decoder"));
    ASSERT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument) << json;
    EXPECT_THAT(Message(read.status()), HasSubstr(part));
  }
}

// ---- post_processor ----

TEST(PostProcessorTest, TemplatesAndRules) {
  const nlohmann::json json = nlohmann::json::parse(R"({"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}},
                 {"SpecialToken": {"id": "</s>"}}],
      "special_tokens": {"<s>": {"ids": [7]}, "</s>": {"ids": [8, 9]}}})");
  const JsonView view(json, kFile, "post_processor");
  const auto find = [](std::string_view name) {
    return name == "x" ? std::optional<int32_t>(3) : std::nullopt;
  };
  const auto frame = ReadFrame(view, {}, find);
  ASSERT_TRUE(frame.ok()) << frame.status();
  EXPECT_THAT(frame->prefix, ElementsAre(7));
  EXPECT_THAT(frame->suffix, ElementsAre(8, 9));
  TextRules rules;
  rules.file = "config";
  rules.adds_bos = true;
  rules.adds_eos = false;
  rules.bos_token = "x";
  const auto overruled = ReadFrame(view, rules, find);
  ASSERT_TRUE(overruled.ok()) << overruled.status();
  EXPECT_THAT(overruled->prefix, ElementsAre(3));
  EXPECT_THAT(overruled->suffix, ElementsAre());
  rules.bos_token = "y";
  EXPECT_THAT(Message(ReadFrame(view, rules, find).status()),
              HasSubstr("config: bos_token is \"y\", expected a special token"));
  const nlohmann::json other = {{"type", "BertProcessing"}};
  EXPECT_THAT(Message(ReadFrame(JsonView(other, kFile, "post_processor"), {}, find).status()),
              HasSubstr("post_processor.type is \"BertProcessing\", which is not supported"));
}

// ---- CharacterMap ----

TEST(CharacterMapTest, BrokenMapsAreRefusedOrMatchNothing) {
  const auto make = [](std::string_view blob) { return CharacterMap::Make(blob, "f"); };
  EXPECT_TRUE(make("").ok());
  for (const std::string_view blob :
       {std::string_view("abc"), std::string_view("\x08\0\0\0abcd", 8),
        std::string_view("\x03\0\0\0abcd", 8), std::string_view("\0\0\0\0", 4),
        std::string_view("\x04\0\0\0abcdx", 9)}) {
    EXPECT_EQ(make(blob).status().code(), absl::StatusCode::kInvalidArgument);
  }
  std::mt19937 random(5);
  for (int round = 0; round < 500; ++round) {
    std::string blob("\x40\0\0\0", 4);
    for (int i = 0; i < 70; ++i) blob.push_back(static_cast<char>(random() % 256));
    blob.push_back('\0');
    const auto map = make(blob);
    ASSERT_TRUE(map.ok()) << map.status();
    for (int byte = 0; byte < 256; ++byte) {
      const std::string text(5, static_cast<char>(byte));
      ASSERT_LE(map->Longest(text).bytes, text.size());
    }
  }
}

}  // namespace
}  // namespace eddy
