// SPDX-License-Identifier: Apache-2.0
#include "engine/tensor_source.h"

#include <gtest/gtest.h>

namespace eddy {
namespace {

class OneTensor : public TensorSource {
 public:
  OneTensor() { tensors_["a"].shape = {2, 3}; }
  const std::string& file() const override { return file_; }
  const std::map<std::string, StoredTensor, std::less<>>& tensors() const override {
    return tensors_;
  }

 private:
  std::string file_ = "one";
  std::map<std::string, StoredTensor, std::less<>> tensors_;
};

TEST(TensorSource, ProvidesWhatItHasAndMakesNothing) {
  const OneTensor source;
  MadeTensor made;
  EXPECT_EQ(source.Find("b"), nullptr);
  EXPECT_EQ(source.Provide("b", {1}, {}, &made), nullptr);
  ASSERT_NE(source.Find("a"), nullptr);
  EXPECT_EQ(source.Find("a")->shape, Shape({2, 3}));
  // In the shape it has, whatever is asked for.
  EXPECT_EQ(source.Provide("a", {7}, {}, &made), source.Find("a"));
  EXPECT_TRUE(made.storage.empty());
}

TEST(StoredTypeName, IsTheFormatsSpelling) {
  EXPECT_STREQ(StoredTypeName(StoredType::kF32), "F32");
  EXPECT_STREQ(StoredTypeName(StoredType::kF16), "F16");
  EXPECT_STREQ(StoredTypeName(StoredType::kBF16), "BF16");
}

}  // namespace
}  // namespace eddy
