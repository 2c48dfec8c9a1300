// SPDX-License-Identifier: Apache-2.0
#include "server/models_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "server/convert.h"
#include "tests/server/server_fixture.h"

namespace eddy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

grpc::Status Tokenize(v1::Models::Stub& stub, const std::string& text,
                      v1::TokenizeResponse* response, const std::string& model = "") {
  grpc::ClientContext context;
  v1::TokenizeRequest request;
  request.set_text(text);
  request.set_model(model);
  return stub.Tokenize(&context, request, response);
}

grpc::Status Detokenize(v1::Models::Stub& stub, const std::vector<uint32_t>& ids,
                        v1::DetokenizeResponse* response) {
  grpc::ClientContext context;
  v1::DetokenizeRequest request;
  for (uint32_t id : ids) request.add_token_ids(id);
  return stub.Detokenize(&context, request, response);
}

TEST(ModelsServiceTest, SaysWhatIsServed) {
  FakeModelOptions model;
  model.end_of_text_ids = {3, 4};
  model.position_max = 9000;
  ServedEngine served(Transport::kInProcess, SmallEngine(), model);
  grpc::ClientContext context;
  v1::ListModelsResponse list;
  ASSERT_TRUE(served.models->List(&context, {}, &list).ok());
  ASSERT_EQ(list.models_size(), 1);
  const v1::Model& listed = list.models(0);
  EXPECT_EQ(listed.name(), "fake");
  EXPECT_EQ(listed.family(), "fake");
  EXPECT_EQ(listed.vocabulary_size(), 64u);
  EXPECT_EQ(listed.state_bytes_per_session(), static_cast<uint64_t>(served.engine->state_bytes()));
  EXPECT_EQ(listed.numeric_path(), "hash");
  EXPECT_EQ(listed.backend(), "fake");
  EXPECT_EQ(listed.target(), "host");
  EXPECT_TRUE(listed.has_tokenizer());
  EXPECT_THAT(listed.end_of_text_ids(), ElementsAre(3, 4));
  EXPECT_EQ(listed.position_max(), 9000u);

  for (const char* name : {"", "fake"}) {
    grpc::ClientContext get_context;
    v1::GetModelRequest request;
    request.set_name(name);
    v1::Model got;
    ASSERT_TRUE(served.models->Get(&get_context, request, &got).ok());
    EXPECT_EQ(got.SerializeAsString(), listed.SerializeAsString());
  }
}

TEST(ModelsServiceTest, ModelsOfImagesTellTheirFormat) {
  ModelInfo info;
  info.vocabulary_size = 256;
  info.mixture_size = 10;
  info.image = ImageFormat{.width = 28, .height = 30, .channels = 1, .start_token = std::nullopt};
  v1::Model model;
  ToProto(info, BackendInfo(), 64, WireRules(), &model);
  EXPECT_EQ(model.mixture_size(), 10u);
  ASSERT_TRUE(model.has_image());
  EXPECT_EQ(model.image().width(), 28u);
  EXPECT_EQ(model.image().height(), 30u);
  EXPECT_EQ(model.image().channels(), 1u);
  EXPECT_FALSE(model.image().has_start_token());
  info.image->start_token = 0;
  ToProto(info, BackendInfo(), 64, WireRules(), &model);
  EXPECT_TRUE(model.image().has_start_token());
  EXPECT_EQ(model.image().start_token(), 0u);
  v1::Model text;
  ToProto(ModelInfo(), BackendInfo(), 64, WireRules(), &text);
  EXPECT_FALSE(text.has_image());
  EXPECT_EQ(text.mixture_size(), 0u);
}

TEST(ModelsServiceTest, AnUnknownModelIsNotFound) {
  ServedEngine served;
  grpc::ClientContext context;
  v1::GetModelRequest request;
  request.set_name("gpt");
  v1::Model model;
  EXPECT_EQ(served.models->Get(&context, request, &model).error_code(),
            grpc::StatusCode::NOT_FOUND);
  v1::TokenizeResponse response;
  EXPECT_EQ(Tokenize(*served.models, "a", &response, "gpt").error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST(ModelsServiceTest, TextToIdsAndBack) {
  ServedEngine served;
  v1::TokenizeResponse ids;
  ASSERT_TRUE(Tokenize(*served.models, "abz", &ids).ok());
  EXPECT_THAT(ids.token_ids(), ElementsAre(0, 1, 25));
  v1::DetokenizeResponse text;
  ASSERT_TRUE(Detokenize(*served.models, {0, 1, 25}, &text).ok());
  EXPECT_EQ(text.text(), "abz");
}

TEST(ModelsServiceTest, InvalidUtf8ComesBackReplaced) {
  auto tokenizer = std::make_shared<FakeTokenizer>();
  tokenizer->SetBytes(1, "\xc3");
  tokenizer->SetBytes(2, "\xa9");
  ServedEngine served(Transport::kInProcess, SmallEngine(), {}, QuietServer(), tokenizer);
  v1::DetokenizeResponse text;
  ASSERT_TRUE(Detokenize(*served.models, {1, 2, 1, 0}, &text).ok());
  EXPECT_EQ(text.text(),
            "\xc3\xa9\xef\xbf\xbd"
            "a");
}

TEST(ModelsServiceTest, LimitsAreNamed) {
  EngineOptions engine = SmallEngine();
  engine.prompt_token_count_max = 5;
  ServerOptions options = QuietServer();
  options.prompt_bytes_max = 10;
  ServedEngine served(Transport::kInProcess, engine, {}, options);
  v1::TokenizeResponse ids;
  grpc::Status status = Tokenize(*served.models, "aaaaaaaaaaa", &ids);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("text has 11 bytes: at most 10"));
  v1::DetokenizeResponse text;
  status = Detokenize(*served.models, {0, 64}, &text);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("token_ids[1] is 64"));
  status = Detokenize(*served.models, {0, 0, 0, 0, 0, 0}, &text);
  EXPECT_THAT(status.error_message(), HasSubstr("token_ids has 6 entries: at most 5"));
}

TEST(ModelsServiceTest, BytesThatAreNoMessageAreRefused) {
  ServedEngine served;
  for (const char* method : {"List", "Get", "Tokenize", "Detokenize"}) {
    const RawReply reply =
        CallRaw(served.channel, absl::StrCat("/eddy.v1.Models/", method), "\xff");
    EXPECT_EQ(reply.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << method;
  }
}

TEST(ModelsServiceTest, AModelWithoutTokenizerSaysSo) {
  ServedEngine served(Transport::kInProcess, SmallEngine(), {}, QuietServer(), nullptr);
  v1::TokenizeResponse ids;
  EXPECT_EQ(Tokenize(*served.models, "a", &ids).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  v1::DetokenizeResponse text;
  EXPECT_EQ(Detokenize(*served.models, {0}, &text).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  const CallResult result = Generate(*served.generation, GenerateOf({1}, 5));
  EXPECT_TRUE(result.status.ok());
  EXPECT_EQ(result.text, "");
}

}  // namespace
}  // namespace eddy
