// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/normaliser.h"

#include "absl/strings/str_cat.h"
#include "engine/tokenizer/characters.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

constexpr size_t kStepsMax = 16, kReplacementBytesMax = 64;
constexpr size_t kTextBytesMax = size_t{1} << 28;

// "a" -> "bc" everywhere, as long as the result stays within bounds.
absl::StatusOr<std::string> Replace(std::string_view text, const std::string& from,
                                    const std::string& to, const std::string& where) {
  std::string result;
  result.reserve(text.size());
  for (size_t at = 0;;) {
    const size_t next = text.find(from, at);
    result.append(text.substr(at, next - at));
    if (next == std::string_view::npos) return result;
    result.append(to);
    if (result.size() > kTextBytesMax) {
      return absl::InvalidArgumentError(
          absl::StrCat("the text grows beyond ", kTextBytesMax, " bytes by ", where));
    }
    at = next + from.size();
  }
}

}  // namespace

absl::StatusOr<Normaliser> Normaliser::Read(const JsonView& view) {
  Normaliser normaliser;
  normaliser.where_ = view.where();
  if (!view.is_null()) EDDY_RETURN_IF_ERROR(normaliser.ReadStep(view));
  return normaliser;
}

absl::Status Normaliser::ReadStep(const JsonView& view) {
  const JsonView type = view.Get("type");
  if (type.value() == "Sequence") {
    EDDY_ASSIGN_OR_RETURN(const auto list, view.Get("normalizers").Elements(kStepsMax));
    for (const JsonView& element : list) EDDY_RETURN_IF_ERROR(ReadStep(element));
    return absl::OkStatus();
  }
  if (steps_.size() == kStepsMax) {
    return view.Error(absl::StrCat("expected at most ", kStepsMax, " normalizers in all"));
  }
  if (type.value() == "NFC") {
    steps_.push_back({Step::Kind::kNfc, "", ""});
  } else if (type.value() == "Prepend") {
    EDDY_ASSIGN_OR_RETURN(std::string prefix, view.String("prepend", kReplacementBytesMax));
    steps_.push_back({Step::Kind::kPrepend, "", std::move(prefix)});
  } else if (type.value() == "Replace") {
    EDDY_ASSIGN_OR_RETURN(Step step, ReadReplace(view));
    steps_.push_back(std::move(step));
  } else {
    return type.Error("which is not supported; expected NFC, Prepend, Replace or Sequence");
  }
  return absl::OkStatus();
}

absl::StatusOr<Normaliser::Step> Normaliser::ReadReplace(const JsonView& view) {
  const JsonView pattern = view.Get("pattern"), content = view.Get("content");
  if (!pattern.Get("Regex").is_null()) return pattern.Error("expected a String, not a Regex");
  EDDY_ASSIGN_OR_RETURN(std::string from, pattern.String("String", kReplacementBytesMax));
  if (!content.value().is_string()) return content.Error("expected a string");
  std::string to = content.value().get<std::string>();
  if (to.size() > kReplacementBytesMax) {
    return content.Error(absl::StrCat("expected at most ", kReplacementBytesMax, " bytes"));
  }
  return Step{Step::Kind::kReplace, std::move(from), std::move(to)};
}

absl::StatusOr<std::string> Normaliser::Apply(std::string_view text) const {
  std::string result(text);
  for (const Step& step : steps_) {
    switch (step.kind) {
      case Step::Kind::kNfc:
        result = ToNfc(result);
        break;
      case Step::Kind::kPrepend:
        if (!result.empty()) result.insert(0, step.to);
        break;
      case Step::Kind::kReplace:
        EDDY_ASSIGN_OR_RETURN(result, Replace(result, step.from, step.to, where_));
        break;
    }
  }
  return result;
}

}  // namespace eddy
