// SPDX-License-Identifier: Apache-2.0
// ChatTemplate: a conversation as the tokens that a model was trained on. Constant; any thread.
//
// Four formats, each message in its order, then the beginning of the model's own:
//
//   chatml    <|im_start|>ROLE\nCONTENT<|im_end|>\n ... <|im_start|>assistant\n
//   llama-2   <s>[INST] CONTENT [/INST] ANSWER </s><s>[INST] ..., blanks around contents left out,
//             the system's message as <<SYS>>\n...\n<</SYS>>\n\n inside of the first one
//   rwkv      User: CONTENT\n\nAssistant: ANSWER\n\n ... Assistant:
//   plain     CONTENT\n ... for models that were not trained on roles
//
// The marks in <| |> and < > are special tokens, which no content can write: it is encoded as plain
// text. rwkv has none; there empty lines, which would end a message, become line ends.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/tokenizer/tokenizer.h"

namespace eddy {

struct ChatMessage {
  std::string role;  // "system", "user" or "assistant"
  std::string content;
};

// As TurnRequest has them.
struct ChatTokens {
  std::vector<int32_t> opening;
  std::vector<int32_t> closing;
  std::vector<int32_t> tokens;
};

class ChatTemplate {
 public:
  static constexpr size_t kMessagesMax = 4096;

  // Of a model folder: the format that the key eddy_chat_template of tokenizer_config.json names,
  // else the one whose published text is chat_template there or the file chat_template.jinja.
  // NOT_FOUND when the folder says nothing; FAILED_PRECONDITION for a template that is none of
  // these, or that needs tokens the tokenizer does not have. The tokenizer outlives it.
  static absl::StatusOr<ChatTemplate> Load(const std::string& folder, const Tokenizer& tokenizer);

  // "chatml", "llama-2", "rwkv" or "plain".
  const std::string& name() const { return name_; }
  // INVALID_ARGUMENT, with the message's index, for an unknown role, an order that the format does
  // not have, no messages or more than kMessagesMax, and when the last is the model's own.
  absl::StatusOr<ChatTokens> Render(std::span<const ChatMessage> messages) const;
  // What ends the model's message, beside the model's end of text.
  const std::vector<int32_t>& stop_token_ids() const { return stop_token_ids_; }
  const std::vector<std::string>& stop_sequences() const { return stop_sequences_; }

 private:
  enum class Format : uint8_t { kRwkv, kChatml, kLlama2, kPlain };
  struct Published;  // a template's text, and what it means
  static const std::vector<Published>& PublishedTemplates();

  ChatTemplate(Format format, const Tokenizer& tokenizer)
      : format_(format), tokenizer_(&tokenizer) {}
  // Finds the special tokens and fixes what does not depend on messages.
  absl::Status Prepare(const std::string& bos_token, const std::string& eos_token);
  absl::StatusOr<int32_t> FindToken(const std::string& name) const;
  absl::StatusOr<std::vector<int32_t>> RenderChatml(std::span<const ChatMessage> messages) const;
  absl::StatusOr<std::vector<int32_t>> RenderLlama2(std::span<const ChatMessage> messages) const;
  absl::StatusOr<std::vector<int32_t>> RenderText(std::span<const ChatMessage> messages) const;

  // Constant after Load.
  Format format_;
  const Tokenizer* tokenizer_;
  std::string name_;
  std::string answer_begin_ = "Assistant:";  // rwkv
  std::string system_default_;               // chatml: where the first message is no system's
  int32_t begin_token_ = -1;                 // chatml <|im_start|>, llama-2 <s>
  int32_t end_token_ = -1;                   // chatml <|im_end|>, llama-2 </s>
  std::string opening_token_;                // rwkv; empty: what the tokenizer puts before a text
  std::vector<int32_t> opening_;
  std::vector<int32_t> closing_;
  std::vector<int32_t> stop_token_ids_;
  std::vector<std::string> stop_sequences_;
};

}  // namespace eddy
