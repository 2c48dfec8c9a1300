// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/post_processor.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "engine/json.h"
#include "engine/tokenizer/token_texts.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

constexpr size_t kStepsMax = 16, kPiecesMax = 64;

// A piece {"SpecialToken": {"id": NAME}}: the ids that special_tokens has for the name.
absl::Status AppendSpecial(const JsonView& piece, const JsonView& special_tokens,
                           std::vector<int32_t>* ids) {
  EDDY_ASSIGN_OR_RETURN(const std::string name, piece.String("id", 1024));
  EDDY_ASSIGN_OR_RETURN(const auto list, special_tokens.Get(name).Get("ids").Elements(kPiecesMax));
  for (const JsonView& id : list) {
    const nlohmann::json& value = id.value();
    if (!value.is_number_unsigned() || value.get<uint64_t>() > static_cast<uint64_t>(kTokenIdMax)) {
      return id.Error(absl::StrCat("expected a token id from 0 to ", kTokenIdMax));
    }
    ids->push_back(value.get<int32_t>());
  }
  return absl::OkStatus();
}

absl::Status ReadTemplate(const JsonView& view, TextFrame* frame) {
  EDDY_ASSIGN_OR_RETURN(const auto pieces, view.Get("single").Elements(kPiecesMax));
  const JsonView special_tokens = view.Get("special_tokens");
  TextFrame read;
  int sequence_count = 0;
  for (const JsonView& piece : pieces) {
    if (!piece.Get("Sequence").is_null()) {
      if (piece.Get("Sequence").Get("id").value() != "A") {
        return piece.Error("expected the Sequence A");
      }
      ++sequence_count;
    } else if (!piece.Get("SpecialToken").is_null()) {
      EDDY_RETURN_IF_ERROR(AppendSpecial(piece.Get("SpecialToken"), special_tokens,
                                         sequence_count == 0 ? &read.prefix : &read.suffix));
    } else {
      return piece.Error("expected a SpecialToken or a Sequence");
    }
  }
  if (sequence_count != 1) return view.Get("single").Error("expected one Sequence");
  // One step's frame stands around that of the steps before.
  frame->prefix.insert(frame->prefix.begin(), read.prefix.begin(), read.prefix.end());
  frame->suffix.insert(frame->suffix.end(), read.suffix.begin(), read.suffix.end());
  return absl::OkStatus();
}

absl::Status ReadStep(const JsonView& view, TextFrame* frame) {
  EDDY_ASSIGN_OR_RETURN(const std::string type, view.String("type", 100));
  if (type == "ByteLevel") return absl::OkStatus();
  if (type == "TemplateProcessing") return ReadTemplate(view, frame);
  if (type == "Sequence") {
    EDDY_ASSIGN_OR_RETURN(const auto list, view.Get("processors").Elements(kStepsMax));
    for (const JsonView& element : list) EDDY_RETURN_IF_ERROR(ReadStep(element, frame));
    return absl::OkStatus();
  }
  return view.Get("type").Error(
      "which is not supported; expected ByteLevel, TemplateProcessing or Sequence");
}

absl::Status Overrule(const TextRules& rules, std::optional<bool> adds, const char* key,
                      const std::string& token, const FindToken& find, std::vector<int32_t>* ids) {
  if (!adds.has_value()) return absl::OkStatus();
  ids->clear();
  if (!*adds) return absl::OkStatus();
  const std::optional<int32_t> id = token.empty() ? std::nullopt : find(token);
  if (!id) {
    return absl::InvalidArgumentError(
        absl::StrCat(rules.file, ": ", key, " is ", token.empty() ? "missing" : Quoted(token),
                     ", expected a special token of the tokenizer, for add_", key, " is true"));
  }
  ids->push_back(*id);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TextFrame> ReadFrame(const JsonView& view, const TextRules& rules,
                                    const FindToken& find) {
  TextFrame frame;
  if (!view.is_null()) EDDY_RETURN_IF_ERROR(ReadStep(view, &frame));
  EDDY_RETURN_IF_ERROR(ApplyRules(rules, find, &frame));
  return frame;
}

absl::Status ApplyRules(const TextRules& rules, const FindToken& find, TextFrame* frame) {
  EDDY_RETURN_IF_ERROR(
      Overrule(rules, rules.adds_bos, "bos_token", rules.bos_token, find, &frame->prefix));
  return Overrule(rules, rules.adds_eos, "eos_token", rules.eos_token, find, &frame->suffix);
}

}  // namespace eddy
