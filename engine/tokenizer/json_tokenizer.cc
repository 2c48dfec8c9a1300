// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/json_tokenizer.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/json.h"
#include "engine/mapped_file.h"
#include "engine/tokenizer/added_tokens.h"
#include "engine/tokenizer/bpe.h"
#include "engine/tokenizer/json_view.h"
#include "engine/tokenizer/normaliser.h"
#include "engine/tokenizer/post_processor.h"
#include "engine/tokenizer/pre_tokenizer.h"
#include "engine/tokenizer/token_decoder.h"
#include "engine/tokenizer/token_texts.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

class JsonTokenizer : public Tokenizer {
 public:
  static absl::StatusOr<std::unique_ptr<JsonTokenizer>> Make(const JsonView& view,
                                                             const TextRules& rules);

  int32_t vocabulary_size() const override { return texts_.size(); }
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text) const override;
  int32_t prefix_token_count() const override { return static_cast<int32_t>(frame_.prefix.size()); }
  absl::StatusOr<std::vector<int32_t>> EncodePlain(std::string_view text,
                                                   bool at_beginning) const override;
  std::optional<int32_t> SpecialToken(std::string_view name) const override;
  std::string_view TokenBytes(int32_t token) const override { return texts_.Bytes(token); }
  std::string_view FirstTokenBytes(int32_t token) const override {
    return texts_.FirstBytes(token);
  }
  DecodingRules decoding_rules() const override { return decoding_rules_; }

 private:
  JsonTokenizer(Normaliser normaliser, AddedTokens added, PreTokenizer pre_tokenizer, Bpe bpe)
      : normaliser_(std::move(normaliser)),
        added_(std::move(added)),
        pre_tokenizer_(std::move(pre_tokenizer)),
        bpe_(std::move(bpe)) {}

  absl::Status FillTexts(const JsonView& view, const TokenDecoder& decoder);
  // Appends the ids of valid UTF-8.
  absl::Status Append(std::string_view text, bool without_special, bool at_beginning,
                      std::vector<int32_t>* tokens) const;
  absl::Status AppendWords(std::string_view text, bool at_beginning, Bpe::Work* work,
                           std::vector<int32_t>* tokens) const;

  // Constant after Make.
  const Normaliser normaliser_;
  const AddedTokens added_;
  const PreTokenizer pre_tokenizer_;
  const Bpe bpe_;
  TextFrame frame_;
  TokenTexts texts_;
  DecodingRules decoding_rules_;
};

absl::StatusOr<std::unique_ptr<JsonTokenizer>> JsonTokenizer::Make(const JsonView& view,
                                                                   const TextRules& rules) {
  EDDY_RETURN_IF_ERROR(view.CheckObject());
  for (const char* const key : {"truncation", "padding"}) {
    if (!view.Get(key).is_null())
      return view.Get(key).Error("which is not supported; expected null");
  }
  EDDY_ASSIGN_OR_RETURN(Bpe bpe, Bpe::Read(view.Get("model")));
  EDDY_ASSIGN_OR_RETURN(Normaliser normaliser, Normaliser::Read(view.Get("normalizer")));
  EDDY_ASSIGN_OR_RETURN(AddedTokens added, AddedTokens::Read(view.Get("added_tokens"), normaliser));
  EDDY_ASSIGN_OR_RETURN(PreTokenizer pre, PreTokenizer::Read(view.Get("pre_tokenizer")));
  EDDY_ASSIGN_OR_RETURN(const TokenDecoder decoder, TokenDecoder::Read(view.Get("decoder")));
  std::unique_ptr<JsonTokenizer> tokenizer(
      new JsonTokenizer(std::move(normaliser), std::move(added), std::move(pre), std::move(bpe)));
  EDDY_RETURN_IF_ERROR(tokenizer->FillTexts(view, decoder));
  EDDY_ASSIGN_OR_RETURN(tokenizer->frame_,
                        ReadFrame(view.Get("post_processor"), rules, [&](std::string_view name) {
                          return tokenizer->SpecialToken(name);
                        }));
  for (const auto* const ids : {&tokenizer->frame_.prefix, &tokenizer->frame_.suffix}) {
    for (const int32_t id : *ids) {
      if (id >= tokenizer->vocabulary_size()) {
        return view.Get("post_processor").Error(absl::StrCat("with an id ", id, " of no token"));
      }
    }
  }
  tokenizer->decoding_rules_.invalid = decoder.invalid();
  return tokenizer;
}

absl::Status JsonTokenizer::FillTexts(const JsonView& view, const TokenDecoder& decoder) {
  const auto set = [&](int32_t id, const std::string& content) {
    TokenDecoder::Text text = decoder.Decode(content);
    texts_.Set(id, std::move(text.bytes), std::move(text.first));
  };
  std::vector<bool> taken;
  for (const auto& [content, id] : bpe_.vocabulary()) {
    if (static_cast<size_t>(id) >= taken.size()) taken.resize(static_cast<size_t>(id) + 1);
    taken[static_cast<size_t>(id)] = true;
    const AddedToken* const added = added_.Find(content);
    if (added == nullptr) {
      set(id, content);
    } else if (added->id != id) {
      return view.Get("added_tokens")
          .Error(absl::StrCat("in which ", Quoted(content), " has the id ", added->id,
                              ", expected that of the vocabulary, ", id));
    }
  }
  for (const AddedToken& token : added_.tokens()) {
    const auto index = static_cast<size_t>(token.id);
    if (index >= taken.size()) taken.resize(index + 1);
    if (taken[index] && !bpe_.Find(token.content)) {
      return view.Get("added_tokens")
          .Error(absl::StrCat("in which the id of ", Quoted(token.content), ", ", token.id,
                              ", is that of another token, too"));
    }
    taken[index] = true;
    texts_.Grow(token.id);
    if (token.special) continue;
    std::string content = token.content;
    if (token.normalized) {
      EDDY_ASSIGN_OR_RETURN(content, normaliser_.Apply(token.content));
    }
    set(token.id, content);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> JsonTokenizer::Encode(std::string_view text) const {
  std::vector<int32_t> tokens = frame_.prefix;
  EDDY_RETURN_IF_ERROR(
      Append(WithReplacements(text), /*without_special=*/false, /*at_beginning=*/true, &tokens));
  tokens.insert(tokens.end(), frame_.suffix.begin(), frame_.suffix.end());
  return tokens;
}

absl::StatusOr<std::vector<int32_t>> JsonTokenizer::EncodePlain(std::string_view text,
                                                                bool at_beginning) const {
  std::vector<int32_t> tokens;
  EDDY_RETURN_IF_ERROR(
      Append(WithReplacements(text), /*without_special=*/true, at_beginning, &tokens));
  return tokens;
}

std::optional<int32_t> JsonTokenizer::SpecialToken(std::string_view name) const {
  const AddedToken* const added = added_.Find(name);
  if (added != nullptr) return added->id;
  return std::nullopt;
}

absl::Status JsonTokenizer::Append(std::string_view text, bool without_special, bool at_beginning,
                                   std::vector<int32_t>* tokens) const {
  Bpe::Work work;
  tokens->reserve(tokens->size() + text.size() / 3);
  for (const AddedTokens::Part& raw :
       added_.Split(text, AddedTokens::Text::kRaw, without_special)) {
    if (raw.token >= 0) {
      tokens->push_back(raw.token);
      continue;
    }
    EDDY_ASSIGN_OR_RETURN(const std::string normalised, normaliser_.Apply(raw.text));
    const bool first = at_beginning && raw.text.data() == text.data();
    for (const AddedTokens::Part& part :
         added_.Split(normalised, AddedTokens::Text::kNormalised, without_special)) {
      if (part.token >= 0) {
        tokens->push_back(part.token);
      } else {
        EDDY_RETURN_IF_ERROR(
            AppendWords(part.text, first && part.text.data() == normalised.data(), &work, tokens));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status JsonTokenizer::AppendWords(std::string_view text, bool at_beginning, Bpe::Work* work,
                                        std::vector<int32_t>* tokens) const {
  EDDY_ASSIGN_OR_RETURN(const Words words, pre_tokenizer_.Apply(std::string(text), at_beginning));
  for (const Words::Span& span : words.spans) bpe_.Encode(words.Word(span), work, tokens);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> ParseJsonTokenizer(std::string_view text,
                                                              const std::string& file,
                                                              const TextRules& rules) {
  EDDY_ASSIGN_OR_RETURN(const nlohmann::json values, ParseJson(text, file));
  return JsonTokenizer::Make(JsonView(values, file), rules);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadJsonTokenizer(const std::string& path,
                                                             const TextRules& rules) {
  EDDY_ASSIGN_OR_RETURN(const MappedFile mapping, MappedFile::Open(path));
  const auto bytes = mapping.bytes();
  if (bytes.size() > kTokenizerJsonBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(path, " has ", bytes.size(), " bytes, at most ",
                                                   kTokenizerJsonBytesMax, " are accepted"));
  }
  return ParseJsonTokenizer({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path,
                            rules);
}

}  // namespace eddy
