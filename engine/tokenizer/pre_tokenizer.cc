// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/pre_tokenizer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/tokenizer/byte_alphabet.h"
#include "engine/tokenizer/utf8.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

constexpr size_t kStepsMax = 16;
constexpr char kGpt2Pattern[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// `text` as a pattern that matches it and nothing else.
std::string Escaped(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    if (c > ' ' && c < '\x7f' && !std::isalnum(static_cast<unsigned char>(c)) && c != '_') {
      pattern.push_back('\\');
    }
    pattern.push_back(c);
  }
  return pattern;
}

}  // namespace

absl::StatusOr<PreTokenizer> PreTokenizer::Read(const JsonView& view) {
  PreTokenizer pre_tokenizer;
  if (!view.is_null()) EDDY_RETURN_IF_ERROR(pre_tokenizer.ReadStep(view));
  return pre_tokenizer;
}

absl::Status PreTokenizer::ReadStep(const JsonView& view) {
  EDDY_ASSIGN_OR_RETURN(const std::string type, view.String("type", 100));
  if (steps_.size() >= kStepsMax) {
    return view.Error(absl::StrCat("expected at most ", kStepsMax, " steps in all"));
  }
  if (type == "ByteLevel") return ReadByteLevel(view);
  if (type == "Split") return ReadSplit(view);
  if (type == "Digits") return ReadDigits(view);
  if (type == "Metaspace") return ReadMetaspace(view);
  if (type == "Sequence") {
    EDDY_ASSIGN_OR_RETURN(const auto list, view.Get("pretokenizers").Elements(kStepsMax));
    for (const JsonView& element : list) EDDY_RETURN_IF_ERROR(ReadStep(element));
    return absl::OkStatus();
  }
  return view.Get("type").Error(
      "which is not supported; expected ByteLevel, Split, Digits, Metaspace or Sequence");
}

absl::Status PreTokenizer::AddSplit(std::string_view pattern, const std::string& where,
                                    bool removes_matches, bool removes_others) {
  Step step;
  EDDY_ASSIGN_OR_RETURN(step.pattern, Pattern::Make(pattern, where));
  step.removes_matches = removes_matches;
  step.removes_others = removes_others;
  steps_.push_back(std::move(step));
  return absl::OkStatus();
}

absl::Status PreTokenizer::ReadByteLevel(const JsonView& view) {
  EDDY_ASSIGN_OR_RETURN(const bool prefix_space, view.Bool("add_prefix_space", true));
  EDDY_ASSIGN_OR_RETURN(const bool use_regex, view.Bool("use_regex", true));
  if (prefix_space) {
    Step step;
    step.kind = Step::Kind::kPrefixSpace;
    steps_.push_back(std::move(step));
  }
  if (use_regex) EDDY_RETURN_IF_ERROR(AddSplit(kGpt2Pattern, view.where(), false, false));
  Step step;
  step.kind = Step::Kind::kByteLevel;
  steps_.push_back(std::move(step));
  return absl::OkStatus();
}

absl::Status PreTokenizer::ReadSplit(const JsonView& view) {
  const JsonView pattern = view.Get("pattern");
  EDDY_RETURN_IF_ERROR(pattern.CheckObject());
  std::string text;
  if (pattern.Get("Regex").is_null()) {
    EDDY_ASSIGN_OR_RETURN(text, pattern.String("String", Pattern::kBytesMax));
    text = Escaped(text);
  } else {
    EDDY_ASSIGN_OR_RETURN(text, pattern.String("Regex", Pattern::kBytesMax));
  }
  EDDY_ASSIGN_OR_RETURN(const std::string behavior, view.String("behavior", 100));
  EDDY_ASSIGN_OR_RETURN(const bool invert, view.Bool("invert", false));
  if (behavior != "Isolated" && behavior != "Removed") {
    return view.Get("behavior").Error("which is not supported; expected Isolated or Removed");
  }
  const bool removes = behavior == "Removed";
  return AddSplit(text, pattern.where(), removes && !invert, removes && invert);
}

absl::Status PreTokenizer::ReadDigits(const JsonView& view) {
  EDDY_ASSIGN_OR_RETURN(const bool individual, view.Bool("individual_digits", false));
  return AddSplit(individual ? "\\p{N}" : "\\p{N}+", view.where(), false, false);
}

absl::Status PreTokenizer::ReadMetaspace(const JsonView& view) {
  Step step;
  step.kind = Step::Kind::kMetaspace;
  EDDY_ASSIGN_OR_RETURN(step.replacement, view.String("replacement", 4));
  if (ValidCharacterBytes(step.replacement) != step.replacement.size()) {
    return view.Get("replacement").Error("expected one character");
  }
  EDDY_ASSIGN_OR_RETURN(const bool prefix_space, view.Bool("add_prefix_space", true));
  EDDY_ASSIGN_OR_RETURN(
      const std::string scheme,
      view.String("prepend_scheme", 100, std::string(prefix_space ? "always" : "never")));
  if (scheme == "always") {
    step.prepend = Step::Prepend::kAlways;
  } else if (scheme == "first") {
    step.prepend = Step::Prepend::kFirst;
  } else if (scheme != "never") {
    return view.Get("prepend_scheme").Error("expected always, first or never");
  }
  if (!prefix_space && scheme != "never") {
    return view.Get("prepend_scheme").Error("expected never, for add_prefix_space is false");
  }
  EDDY_ASSIGN_OR_RETURN(step.splits, view.Bool("split", true));
  steps_.push_back(std::move(step));
  return absl::OkStatus();
}

absl::StatusOr<Words> PreTokenizer::Apply(std::string text, bool at_beginning) const {
  Words words;
  words.text = std::move(text);
  if (!words.text.empty()) words.spans.push_back({0, words.text.size(), at_beginning});
  for (const Step& step : steps_) {
    switch (step.kind) {
      case Step::Kind::kSplit:
        EDDY_RETURN_IF_ERROR(Split(step, &words));
        break;
      case Step::Kind::kPrefixSpace:
        PrefixSpace(&words);
        break;
      case Step::Kind::kByteLevel:
        MapBytes(&words);
        break;
      case Step::Kind::kMetaspace:
        Metaspace(step, &words);
        break;
    }
  }
  return words;
}

absl::Status PreTokenizer::Split(const Step& step, Words* words) {
  std::vector<Words::Span> spans;
  Pattern::Scan scan(*step.pattern);
  for (const Words::Span& span : words->spans) {
    const auto add = [&](size_t begin, size_t end) {
      if (begin == end) return;
      spans.push_back({span.begin + begin, span.begin + end, span.at_beginning && begin == 0});
    };
    const std::string_view word = words->Word(span);
    scan.Start(word);
    size_t done = 0;
    for (Pattern::Match match;;) {
      EDDY_ASSIGN_OR_RETURN(const bool found, scan.Next(&match));
      if (!step.removes_others) add(done, found ? match.begin : word.size());
      if (!found) break;
      if (!step.removes_matches) add(match.begin, match.end);
      done = match.end;
    }
  }
  words->spans = std::move(spans);
  return absl::OkStatus();
}

void PreTokenizer::PrefixSpace(Words* words) {
  Words result;
  result.text.reserve(words->text.size() + words->spans.size());
  for (const Words::Span& span : words->spans) {
    const std::string_view word = words->Word(span);
    const size_t begin = result.text.size();
    if (!word.starts_with(' ')) result.text.push_back(' ');
    result.text.append(word);
    result.spans.push_back({begin, result.text.size(), span.at_beginning});
  }
  *words = std::move(result);
}

void PreTokenizer::MapBytes(Words* words) {
  Words result;
  result.text.reserve(words->text.size() * 3 / 2);
  result.spans.reserve(words->spans.size());
  for (const Words::Span& span : words->spans) {
    const size_t begin = result.text.size();
    for (const char c : words->Word(span)) {
      ByteAlphabet::Append(static_cast<uint8_t>(c), &result.text);
    }
    result.spans.push_back({begin, result.text.size(), span.at_beginning});
  }
  *words = std::move(result);
}

void PreTokenizer::Metaspace(const Step& step, Words* words) {
  Words result;
  result.text.reserve(words->text.size() * 2);
  for (const Words::Span& span : words->spans) {
    const std::string_view word = words->Word(span);
    size_t begin = result.text.size();
    const bool wanted = step.prepend == Step::Prepend::kAlways ||
                        (step.prepend == Step::Prepend::kFirst && span.at_beginning);
    if (wanted && !word.starts_with(' ') && !word.starts_with(step.replacement)) {
      result.text.append(step.replacement);
    }
    bool at_beginning = span.at_beginning;
    for (size_t i = 0; i < word.size(); ++i) {
      const bool blank = word[i] == ' ';
      if (step.splits && result.text.size() > begin &&
          (blank || word.substr(i).starts_with(step.replacement))) {
        result.spans.push_back({begin, result.text.size(), std::exchange(at_beginning, false)});
        begin = result.text.size();
      }
      if (blank) {
        result.text.append(step.replacement);
      } else {
        result.text.push_back(word[i]);
      }
    }
    result.spans.push_back({begin, result.text.size(), at_beginning});
  }
  *words = std::move(result);
}

}  // namespace eddy
