// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/json.h"
#include "engine/tokenizer/utf8.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

// Bounds of one match; a pattern that backtracks without end stops here.
constexpr uint32_t kMatchLimit = 10'000'000;
constexpr uint32_t kHeapLimitKib = 64 << 10;
constexpr size_t kJitStackBytesMin = 32 << 10, kJitStackBytesMax = 8 << 20;
// White_Space; PCRE2's own \s has U+180E, too.
constexpr char kSpaces[] =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f})"
    R"(\x{3000})";

// Rewrites a pattern for PCRE2, or says what in it might not mean the same.
class Translation {
 public:
  explicit Translation(std::string_view pattern) : rest_(pattern) {}

  // The first thing that is not accepted; empty: none.
  std::string Run();
  const std::string& pcre() const { return pcre_; }

 private:
  bool Takes(std::string_view text) {
    if (!rest_.starts_with(text)) return false;
    rest_.remove_prefix(text.size());
    return true;
  }
  // As it is.
  bool Copies(std::string_view text) {
    if (!Takes(text)) return false;
    pcre_.append(text);
    return true;
  }
  std::string Group();
  std::string Escape(bool in_class);
  std::string Class();
  std::string Count();

  std::string_view rest_;
  std::string pcre_;
};

std::string Translation::Run() {
  while (!rest_.empty()) {
    std::string wrong;
    if (Takes("\\")) {
      wrong = Escape(/*in_class=*/false);
    } else if (Copies("[")) {
      wrong = Class();
    } else if (Copies("(")) {
      wrong = Group();
    } else if (Copies("{")) {
      wrong = Count();
    } else if (rest_[0] == '^' || rest_[0] == '$' || rest_[0] == '}' || rest_[0] == ']') {
      return std::string(rest_.substr(0, 1));
    } else {
      Copies(rest_.substr(0, 1));
    }
    if (!wrong.empty()) return wrong;
  }
  return "";
}

std::string Translation::Group() {
  if (!rest_.starts_with('?')) return "";
  for (const std::string_view kind : {"?:", "?i:", "?=", "?!", "?<=", "?<!", "?>"}) {
    if (Copies(kind)) return "";
  }
  return absl::StrCat("(", std::string(rest_.substr(0, 3)));
}

// "{n}", "{n,}" and "{n,m}" mean the same; a "+" behind does not.
std::string Translation::Count() {
  const size_t end = rest_.find('}');
  const std::string_view inside = rest_.substr(0, end);
  if (end == std::string_view::npos || inside.empty() || inside[0] == ',' ||
      inside.find_first_not_of("0123456789,") != std::string_view::npos ||
      rest_.substr(end + 1).starts_with('+')) {
    return absl::StrCat("{", std::string(rest_.substr(0, 8)));
  }
  Copies(rest_.substr(0, end + 1));
  return "";
}

std::string Translation::Escape(bool in_class) {
  if (rest_.empty()) return "\\";
  const char kind = rest_[0];
  rest_.remove_prefix(1);
  const bool punctuation = kind > ' ' && kind < '\x7f' && !std::isalnum(kind) && kind != '_';
  if (kind == 'p' || kind == 'P') {
    const size_t end = rest_.find('}');
    if (rest_.starts_with('{') && end != std::string_view::npos &&
        rest_.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_", 1) ==
            end) {
      absl::StrAppend(&pcre_, "\\", std::string(1, kind), std::string(rest_.substr(0, end + 1)));
      rest_.remove_prefix(end + 1);
      return "";
    }
  } else if (kind == 's') {
    absl::StrAppend(&pcre_, in_class ? "" : "[", kSpaces, in_class ? "" : "]");
    return "";
  } else if (kind == 'S' && !in_class) {
    absl::StrAppend(&pcre_, "[^", kSpaces, "]");
    return "";
  } else if (kind == 'u' && rest_.size() >= 4 &&
             rest_.substr(0, 4).find_first_not_of("0123456789abcdefABCDEF") ==
                 std::string_view::npos) {
    absl::StrAppend(&pcre_, "\\x{", std::string(rest_.substr(0, 4)), "}");
    rest_.remove_prefix(4);
    return "";
  } else if (punctuation || kind == 'n' || kind == 'r' || kind == 't' || kind == 'd') {
    absl::StrAppend(&pcre_, "\\", std::string(1, kind));
    return "";
  }
  return absl::StrCat("\\", std::string(1, kind));
}

std::string Translation::Class() {
  Copies("^");
  for (bool first = true; !rest_.empty(); first = false) {
    if (rest_[0] == ']') {
      if (first) return "[]";
      Copies("]");
      return "";
    }
    if (rest_[0] == '[' || rest_.starts_with("&&")) {
      return absl::StrCat(std::string(rest_.substr(0, 2)), " inside of [ ]");
    }
    if (Takes("\\")) {
      std::string wrong = Escape(/*in_class=*/true);
      if (!wrong.empty()) return wrong;
    } else {
      Copies(rest_.substr(0, 1));
    }
  }
  return "[ without ]";
}

std::string PcreMessage(int code) {
  PCRE2_UCHAR message[200] = {};
  pcre2_get_error_message(code, message, sizeof(message));
  return reinterpret_cast<const char*>(message);
}

}  // namespace

struct Pattern::Code {
  pcre2_code* code = nullptr;
  ~Code() { pcre2_code_free(code); }
};

struct Pattern::Scan::Space {
  pcre2_match_data* data = nullptr;
  pcre2_match_context* context = nullptr;
  pcre2_jit_stack* stack = nullptr;
  ~Space() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
};

Pattern::Pattern(std::unique_ptr<Code> code, std::string where)
    : code_(std::move(code)), where_(std::move(where)) {}
Pattern::Pattern(Pattern&&) noexcept = default;
Pattern& Pattern::operator=(Pattern&&) noexcept = default;
Pattern::~Pattern() = default;

absl::StatusOr<Pattern> Pattern::Make(std::string_view pattern, const std::string& where) {
  const auto refuse = [&](const std::string& why) {
    return absl::InvalidArgumentError(absl::StrCat(where, " is ", Quoted(pattern), ", ", why));
  };
  if (pattern.empty() || pattern.size() > kBytesMax) {
    return refuse(absl::StrCat("expected a pattern of 1 to ", kBytesMax, " bytes"));
  }
  Translation translation(pattern);
  if (const std::string wrong = translation.Run(); !wrong.empty()) {
    return refuse(absl::StrCat("which has ", Quoted(wrong), ": this is not supported"));
  }
  int error = 0;
  PCRE2_SIZE offset = 0;
  auto code = std::make_unique<Code>();
  code->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translation.pcre().data()),
                    translation.pcre().size(), PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
  if (code->code == nullptr)
    return refuse(absl::StrCat("which is no pattern: ", PcreMessage(error)));
  // Without it, where the machine has none, matching is slower, not different.
  pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE);
  return Pattern(std::move(code), where);
}

Pattern::Scan::Scan(const Pattern& pattern) : pattern_(pattern), space_(std::make_unique<Space>()) {
  space_->data = pcre2_match_data_create(1, nullptr);
  space_->context = pcre2_match_context_create(nullptr);
  space_->stack = pcre2_jit_stack_create(kJitStackBytesMin, kJitStackBytesMax, nullptr);
  pcre2_set_match_limit(space_->context, kMatchLimit);
  pcre2_set_heap_limit(space_->context, kHeapLimitKib);
  pcre2_jit_stack_assign(space_->context, nullptr, space_->stack);
}

Pattern::Scan::~Scan() = default;

void Pattern::Scan::Start(std::string_view text) {
  text_ = text;
  at_ = 0;
}

absl::StatusOr<bool> Pattern::Scan::Next(Match* match) {
  if (at_ > text_.size()) return false;
  const int count =
      pcre2_match(pattern_.code_->code, reinterpret_cast<PCRE2_SPTR>(text_.data()), text_.size(),
                  at_, PCRE2_NO_UTF_CHECK, space_->data, space_->context);
  if (count == PCRE2_ERROR_NOMATCH) return false;
  if (count < 0) {
    return absl::InvalidArgumentError(absl::StrCat("the text from byte ", at_,
                                                   " on is too much for the pattern of ",
                                                   pattern_.where_, ": ", PcreMessage(count)));
  }
  const PCRE2_SIZE* const bounds = pcre2_get_ovector_pointer(space_->data);
  *match = {bounds[0], bounds[1]};
  at_ = match->end;
  if (match->begin == match->end) {  // of nothing: goes on behind the next character
    at_ += at_ < text_.size() ? ValidCharacterBytes(text_.substr(at_)) : 1;
  }
  return true;
}

}  // namespace eddy
