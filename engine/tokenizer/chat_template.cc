// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/chat_template.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/config.h"
#include "engine/json.h"
#include "engine/mapped_file.h"
#include "engine/tokenizer/characters.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

constexpr std::string_view kNames[] = {"rwkv", "chatml", "llama-2", "plain"};  // as Format
constexpr char kRoles[][10] = {"system", "user", "assistant"};

// Text and special tokens, one after the other. Neighbouring texts are one text, for a tokenizer
// may cut across where they meet.
class Runs {
 public:
  explicit Runs(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void Add(std::string_view text) { text_.append(text); }
  absl::Status Special(int32_t token) {
    EDDY_RETURN_IF_ERROR(Flush());
    tokens_.push_back(token);
    return absl::OkStatus();
  }
  absl::StatusOr<std::vector<int32_t>> Take() {
    EDDY_RETURN_IF_ERROR(Flush());
    return std::move(tokens_);
  }

 private:
  absl::Status Flush() {
    if (text_.empty()) return absl::OkStatus();
    EDDY_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens,
                          tokenizer_.EncodePlain(text_, /*at_beginning=*/tokens_.empty()));
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    text_.clear();
    return absl::OkStatus();
  }

  const Tokenizer& tokenizer_;
  std::string text_;
  std::vector<int32_t> tokens_;
};

// As Python's str.strip.
std::string_view Stripped(std::string_view text) {
  const auto is_blank = [](char32_t c) { return IsWhiteSpace(c) || (c >= 0x1C && c <= 0x1F); };
  size_t bytes = 0;
  while (!text.empty() && is_blank(DecodeCharacter(text, &bytes))) text.remove_prefix(bytes);
  while (!text.empty() && is_blank(LastCharacter(text, &bytes))) text.remove_suffix(bytes);
  return text;
}

// An empty line would end the message.
std::string WithoutEmptyLines(std::string_view content) {
  std::string text =
      absl::StrReplaceAll(absl::string_view(content.data(), content.size()), {{"\r\n", "\n"}});
  text = std::string(Stripped(text));
  std::string result;
  for (const char c : text) {
    if (c != '\n' || !result.ends_with('\n')) result.push_back(c);
  }
  return result;
}

absl::Status CheckMessages(std::span<const ChatMessage> messages) {
  if (messages.empty() || messages.size() > ChatTemplate::kMessagesMax) {
    return absl::InvalidArgumentError(absl::StrCat("messages has ", messages.size(),
                                                   " entries: 1 to ", ChatTemplate::kMessagesMax,
                                                   " are allowed."));
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    bool known = false;
    for (const char* const role : kRoles) known = known || messages[i].role == role;
    if (!known) {
      return absl::InvalidArgumentError(absl::StrCat("messages[", i, "].role is ",
                                                     Quoted(messages[i].role),
                                                     ": it must be system, user or assistant."));
    }
  }
  if (messages.back().role == "assistant") {
    return absl::InvalidArgumentError(
        absl::StrCat("messages[", messages.size() - 1,
                     "].role is \"assistant\": the last message must be one to answer."));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadText(const std::string& path) {
  EDDY_ASSIGN_OR_RETURN(const MappedFile mapping, MappedFile::Open(path));
  constexpr size_t kBytesMax = size_t{1} << 20;
  const auto bytes = mapping.bytes().first(std::min(mapping.bytes().size(), kBytesMax));
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

}  // namespace

struct ChatTemplate::Published {
  std::string text;
  Format format = Format::kPlain;
  std::string system_default;
  std::string opening_token;
  std::string answer_begin;
};

const std::vector<ChatTemplate::Published>& ChatTemplate::PublishedTemplates() {
  static const std::string kChatmlBody =
      R"({{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}})"
      R"({% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %})";
  static const std::string kEach = "{% for message in messages %}";
  static const std::string kRwkvBody =
      R"({{ '<|rwkv_tokenizer_end_of_text|>' }}{% for message in messages %})"
      R"({% if message['role'] == 'user' %}{{'User: ' + message['content'] + '\n\n'}})"
      R"({% elif message['role'] == 'system' %}{{'System: ' + message['content'] + '\n\n'}})"
      R"({% elif message['role'] == 'assistant' %}{{'Assistant: ' + message['content'] + '\n\n'}})"
      R"({% endif %}{% endfor %}{% if add_generation_prompt %})";
  static const std::string kEnd = "<|rwkv_tokenizer_end_of_text|>";
  static const std::vector<Published> kTemplates = {
      {kEach + kChatmlBody, Format::kChatml, "", "", ""},
      {"{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}"
       "{% endif %}" +
           kEach + kChatmlBody,
       Format::kChatml, "", "", ""},
      // Qwen 2
      {kEach +
           R"({% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n)"
           R"(You are a helpful assistant.<|im_end|>\n' }}{% endif %})" +
           kChatmlBody,
       Format::kChatml, "You are a helpful assistant.", "", ""},
      // RWKV-7 World, and those that think first
      {kRwkvBody + "{{ 'Assistant:' }}{% endif %}", Format::kRwkv, "", kEnd, "Assistant:"},
      {kRwkvBody + R"({% if enable_thinking is defined and enable_thinking == False %})"
                   R"({{ 'Assistant: <think\n</think>' }}{% else %}{{ 'Assistant: <think' }})"
                   R"({% endif %}{% endif %})",
       Format::kRwkv, "", kEnd, "Assistant: <think"},
      // Llama 2
      {R"({% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %})"
       R"({% set system_message = messages[0]['content'] %}{% else %})"
       R"({% set loop_messages = messages %}{% set system_message = false %}{% endif %})"
       R"({% for message in loop_messages %})"
       R"({% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception()"
       R"('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %})"
       R"({% if loop.index0 == 0 and system_message != false %})"
       R"({% set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + message['content'] %})"
       R"({% else %}{% set content = message['content'] %}{% endif %})"
       R"({% if message['role'] == 'user' %})"
       R"({{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }})"
       R"({% elif message['role'] == 'assistant' %})"
       R"({{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %})",
       Format::kLlama2, "", "", ""}};
  return kTemplates;
}

absl::StatusOr<ChatTemplate> ChatTemplate::Load(const std::string& folder,
                                                const Tokenizer& tokenizer) {
  const auto nothing = [&folder] {
    return absl::NotFoundError(absl::StrCat(
        folder,
        " has no chat template; say which of rwkv, chatml, llama-2, plain it speaks by "
        "eddy_chat_template in tokenizer_config.json."));
  };
  const auto config = Config::Read(folder + "/tokenizer_config.json");
  if (!config.ok()) return absl::IsNotFound(config.status()) ? nothing() : config.status();
  EDDY_ASSIGN_OR_RETURN(const std::string bos_token, config->TokenName("bos_token"));
  EDDY_ASSIGN_OR_RETURN(const std::string eos_token, config->TokenName("eos_token"));
  constexpr char kKey[] = "eddy_chat_template";
  if (config->Has(kKey)) {
    EDDY_ASSIGN_OR_RETURN(const size_t index, config->Choice(kKey, kNames));
    ChatTemplate chosen(static_cast<Format>(index), tokenizer);
    EDDY_RETURN_IF_ERROR(chosen.Prepare(bos_token, eos_token));
    return chosen;
  }
  const std::string jinja = folder + "/chat_template.jinja";
  absl::StatusOr<std::string> text = ReadText(jinja);
  if (absl::IsNotFound(text.status())) {
    if (!config->Has("chat_template")) return nothing();
    text = config->String("chat_template");
  }
  // A line end within a template's quotes is written as it is or as \n: the same to Jinja.
  const std::string wanted = text.ok() ? absl::StrReplaceAll(*text, {{"\n", "\\n"}}) : "";
  for (const Published& published : PublishedTemplates()) {
    if (published.text != wanted) continue;
    ChatTemplate found(published.format, tokenizer);
    found.system_default_ = published.system_default;
    found.opening_token_ = published.opening_token;
    if (!published.answer_begin.empty()) found.answer_begin_ = published.answer_begin;
    EDDY_RETURN_IF_ERROR(found.Prepare(bos_token, eos_token));
    return found;
  }
  return absl::FailedPreconditionError(absl::StrCat(
      folder, " has a template we cannot run: ", text.ok() ? Quoted(*text) : "no string",
      " is none of the known ones. Say which of rwkv, chatml, llama-2, plain it amounts to by "
      "eddy_chat_template in tokenizer_config.json."));
}

absl::StatusOr<int32_t> ChatTemplate::FindToken(const std::string& name) const {
  const std::optional<int32_t> id = tokenizer_->SpecialToken(name);
  if (id) return *id;
  return absl::FailedPreconditionError(absl::StrCat("the chat template ", name_,
                                                    " needs the special token ", Quoted(name),
                                                    ", which the tokenizer does not have."));
}

absl::Status ChatTemplate::Prepare(const std::string& bos_token, const std::string& eos_token) {
  name_ = kNames[static_cast<size_t>(format_)];
  if (format_ == Format::kChatml || format_ == Format::kLlama2) {
    const bool chatml = format_ == Format::kChatml;
    const auto or_else = [](const std::string& token, const char* fallback) {
      return token.empty() ? std::string(fallback) : token;
    };
    EDDY_ASSIGN_OR_RETURN(begin_token_,
                          FindToken(chatml ? "<|im_start|>" : or_else(bos_token, "<s>")));
    EDDY_ASSIGN_OR_RETURN(end_token_,
                          FindToken(chatml ? "<|im_end|>" : or_else(eos_token, "</s>")));
    stop_token_ids_ = {end_token_};
    Runs closing(*tokenizer_);
    EDDY_RETURN_IF_ERROR(closing.Special(end_token_));
    if (chatml) closing.Add("\n");
    EDDY_ASSIGN_OR_RETURN(closing_, closing.Take());
  } else if (opening_token_.empty()) {
    EDDY_ASSIGN_OR_RETURN(opening_, tokenizer_->Encode(""));
    opening_.resize(static_cast<size_t>(tokenizer_->prefix_token_count()));
  } else {
    EDDY_ASSIGN_OR_RETURN(const int32_t token, FindToken(opening_token_));
    opening_ = {token};
  }
  if (format_ == Format::kRwkv) {
    EDDY_ASSIGN_OR_RETURN(closing_, tokenizer_->EncodePlain("\n\n", /*at_beginning=*/false));
    if (closing_.size() == 1) stop_token_ids_ = closing_;
    stop_sequences_ = {"\n\n"};
  }
  if (!system_default_.empty()) {
    Runs opening(*tokenizer_);
    EDDY_RETURN_IF_ERROR(opening.Special(begin_token_));
    opening.Add("system\n" + system_default_);
    EDDY_RETURN_IF_ERROR(opening.Special(end_token_));
    opening.Add("\n");
    EDDY_ASSIGN_OR_RETURN(opening_, opening.Take());
  }
  return absl::OkStatus();
}

absl::StatusOr<ChatTokens> ChatTemplate::Render(std::span<const ChatMessage> given) const {
  EDDY_RETURN_IF_ERROR(CheckMessages(given));
  std::vector<ChatMessage> messages(given.begin(), given.end());
  for (ChatMessage& message : messages) message.content = WithReplacements(message.content);
  ChatTokens rendered;
  rendered.closing = closing_;
  if (system_default_.empty() || messages[0].role != "system") rendered.opening = opening_;
  if (format_ == Format::kChatml) {
    EDDY_ASSIGN_OR_RETURN(rendered.tokens, RenderChatml(messages));
  } else if (format_ == Format::kLlama2) {
    EDDY_ASSIGN_OR_RETURN(rendered.tokens, RenderLlama2(messages));
  } else {
    EDDY_ASSIGN_OR_RETURN(rendered.tokens, RenderText(messages));
  }
  return rendered;
}

absl::StatusOr<std::vector<int32_t>> ChatTemplate::RenderChatml(
    std::span<const ChatMessage> messages) const {
  Runs runs(*tokenizer_);
  for (const ChatMessage& message : messages) {
    EDDY_RETURN_IF_ERROR(runs.Special(begin_token_));
    runs.Add(message.role);
    runs.Add("\n");
    runs.Add(message.content);
    EDDY_RETURN_IF_ERROR(runs.Special(end_token_));
    runs.Add("\n");
  }
  EDDY_RETURN_IF_ERROR(runs.Special(begin_token_));
  runs.Add("assistant\n");
  return runs.Take();
}

absl::StatusOr<std::vector<int32_t>> ChatTemplate::RenderLlama2(
    std::span<const ChatMessage> messages) const {
  Runs runs(*tokenizer_);
  const size_t first = messages[0].role == "system" ? 1 : 0;
  if (first == messages.size()) {
    return absl::InvalidArgumentError("messages has a system's only: llama-2 needs a user's.");
  }
  for (size_t i = first; i < messages.size(); ++i) {
    const bool of_user = (i - first) % 2 == 0;
    if (messages[i].role != (of_user ? "user" : "assistant")) {
      return absl::InvalidArgumentError(
          absl::StrCat("messages[", i, "].role is ", Quoted(messages[i].role), ": llama-2 wants ",
                       of_user ? "a user's" : "an assistant's", " message here."));
    }
    if (!of_user) {
      runs.Add(" ");
      runs.Add(Stripped(messages[i].content));
      runs.Add(" ");
      EDDY_RETURN_IF_ERROR(runs.Special(end_token_));
      continue;
    }
    std::string content = messages[i].content;
    if (i == 1 && first == 1) {
      content = absl::StrCat("<<SYS>>\n", messages[0].content, "\n<</SYS>>\n\n", content);
    }
    EDDY_RETURN_IF_ERROR(runs.Special(begin_token_));
    runs.Add("[INST] ");
    runs.Add(Stripped(content));
    runs.Add(" [/INST]");
  }
  return runs.Take();
}

absl::StatusOr<std::vector<int32_t>> ChatTemplate::RenderText(
    std::span<const ChatMessage> messages) const {
  Runs runs(*tokenizer_);
  const bool rwkv = format_ == Format::kRwkv;
  for (const ChatMessage& message : messages) {
    if (rwkv) {
      std::string role = message.role;
      role[0] = static_cast<char>(role[0] - 'a' + 'A');
      runs.Add(role + ": ");
      runs.Add(WithoutEmptyLines(message.content));
      runs.Add("\n\n");
    } else {
      runs.Add(message.content);
      runs.Add("\n");
    }
  }
  if (rwkv) runs.Add(answer_begin_);
  return runs.Take();
}

}  // namespace eddy
