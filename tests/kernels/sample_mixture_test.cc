// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/sample_mixture.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/cpu/philox.h"
#include "tests/kernels/kernel_fixture.h"

namespace eddy {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The contract, straight from its formulas, with libm.
class Reference {
 public:
  Reference(std::vector<float> outputs, int32_t value_count)
      : outputs_(outputs.begin(), outputs.end()), last_(value_count - 1) {
    for (size_t m = 0; m < size(); ++m) total_ += std::exp(outputs_[m]);
  }

  long double Probability(int32_t value) const {
    long double sum = 0.0L;
    for (size_t m = 0; m < size(); ++m) sum += std::exp(outputs_[m]) / total_ * Mass(m, value);
    return sum;
  }

  int32_t Draw(const SampleRow& row) const {
    const auto words = cpu::Philox4x32(
        {static_cast<uint32_t>(row.position), static_cast<uint32_t>(row.position >> 32), 0, 0},
        {static_cast<uint32_t>(row.seed), static_cast<uint32_t>(row.seed >> 32)});
    const long double u1 =
        static_cast<long double>((uint64_t{words[0]} << 32 | words[1]) >> 11) / 0x1p53L;
    const long double u2 =
        (static_cast<long double>((uint64_t{words[2]} << 32 | words[3]) >> 12) + 0.5L) / 0x1p52L;
    const long double temperature = row.temperature;
    long double total = 0.0L, sum = 0.0L;
    for (size_t m = 0; m < size(); ++m) total += std::exp(outputs_[m] / temperature);
    size_t m = 0;
    while ((sum += std::exp(outputs_[m] / temperature)) <= u1 * total) ++m;
    const long double y =
        outputs_[size() + m] + temperature * Scale(m) * (std::log(u2) - std::log(1.0L - u2));
    const long double value = std::round((y + 1.0L) / 2.0L * last_);
    return static_cast<int32_t>(std::min(std::max(value, 0.0L), static_cast<long double>(last_)));
  }

 private:
  size_t size() const { return outputs_.size() / 3; }
  long double Scale(size_t m) const { return std::exp(std::max(outputs_[2 * size() + m], -7.0L)); }
  long double Mass(size_t m, int32_t value) const {
    const long double half = 1.0L / last_;
    const long double y = 2.0L * value / last_ - 1.0L;
    long double upper = (y + half - outputs_[size() + m]) / Scale(m);
    long double lower = (y - half - outputs_[size() + m]) / Scale(m);
    if (value == 0) lower = -HUGE_VALL;
    if (value == last_) upper = HUGE_VALL;
    if (lower > 0) {  // the mirror image, where the difference keeps its digits
      const long double mirrored = -lower;
      lower = -upper;
      upper = mirrored;
    }
    return 1.0L / (1.0L + std::exp(-upper)) - 1.0L / (1.0L + std::exp(-lower));
  }

  std::vector<long double> outputs_;
  int32_t last_;
  long double total_ = 0.0L;
};

// Logits, means within and beyond the values, logarithms of scales from sharp to flat.
std::vector<float> RandomOutputs(Numbers& numbers, int64_t mixture_size) {
  std::vector<float> outputs = numbers.Normal(mixture_size, 2.0f);
  for (const float mean : numbers.Uniform(mixture_size, -1.3f, 1.3f)) outputs.push_back(mean);
  for (const float scale : numbers.Uniform(mixture_size, -8.0f, 1.0f)) outputs.push_back(scale);
  return outputs;
}

class SampleMixtureTest : public ::testing::TestWithParam<std::string> {
 protected:
  std::vector<SampleResult> Sample(std::vector<float> outputs, int32_t value_count,
                                   const std::vector<SampleRow>& rows, int thread_count = 1) {
    const auto backend = BackendOf(GetParam(), thread_count);
    const auto row_count = static_cast<int64_t>(rows.size());
    const auto size = static_cast<int64_t>(outputs.size());
    std::vector<SampleResult> results(rows.size());
    backend->SampleMixture(View(outputs, {row_count, size / row_count}), value_count, rows,
                           results);
    EXPECT_TRUE(backend->Synchronize().ok());
    return results;
  }
};

SampleRow RowOf(float temperature, uint64_t seed, int64_t position) {
  SampleRow row;
  row.temperature = temperature;
  row.seed = seed;
  row.position = position;
  row.wants_log_prob = true;
  return row;
}

TEST_P(SampleMixtureTest, DrawsAndScoresWhatTheReferenceDoes) {
  Numbers numbers(41);
  for (const int64_t mixture_size : {1, 3, 10}) {
    for (const int32_t value_count : {2, 5, 256, 60000}) {
      for (int i = 0; i < 40; ++i) {
        const std::vector<float> outputs = RandomOutputs(numbers, mixture_size);
        const Reference reference(outputs, value_count);
        const SampleRow row = RowOf(numbers.Uniform(1, 0.2f, 2.0f)[0],
                                    static_cast<uint64_t>(numbers.Integer(0, INT64_MAX)),
                                    numbers.Integer(0, INT64_MAX));
        const SampleResult result = Sample(outputs, value_count, {row})[0];
        EXPECT_EQ(result.token, reference.Draw(row)) << value_count << " values, case " << i;
        const double expected = static_cast<double>(std::log(reference.Probability(result.token)));
        EXPECT_NEAR(result.log_prob, expected, 1e-6 * (1.0 - expected));
        EXPECT_EQ(result.alternative_count, 0);
      }
    }
  }
}

TEST_P(SampleMixtureTest, DrawnValuesHaveTheirProbabilities) {
  // 99.9 % quantile of chi-square with 15 degrees of freedom.
  constexpr double kQuantile = 37.70;
  constexpr int kDrawCount = 20000, kValueCount = 16;
  const std::vector<float> outputs = {0.5f, 0.0f, -0.7f, -1.1f, 0.1f, 0.6f, -1.0f, -2.0f, -0.3f};
  for (const bool by_position : {true, false}) {
    std::vector<float> all;
    std::vector<SampleRow> rows;
    for (int i = 0; i < kDrawCount; ++i) {
      all.insert(all.end(), outputs.begin(), outputs.end());
      rows.push_back(by_position ? RowOf(1.0f, 77, i) : RowOf(1.0f, static_cast<uint64_t>(i), 9));
    }
    std::vector<int> counts(kValueCount);
    for (const SampleResult& result : Sample(all, kValueCount, rows, 2)) {
      ++counts[static_cast<size_t>(result.token)];
    }
    const Reference reference(outputs, kValueCount);
    double chi_square = 0.0;
    for (int32_t value = 0; value < kValueCount; ++value) {
      const double expected = static_cast<double>(reference.Probability(value)) * kDrawCount;
      const double difference = counts[static_cast<size_t>(value)] - expected;
      chi_square += difference * difference / expected;
    }
    EXPECT_LT(chi_square, kQuantile);
    EXPECT_GT(chi_square, 0.0);
  }
}

TEST_P(SampleMixtureTest, TemperatureDividesLogitsAndScalesTheNoise) {
  Numbers numbers(42);
  for (int i = 0; i < 200; ++i) {
    std::vector<float> hot = RandomOutputs(numbers, 4);
    for (size_t m = 8; m < 12; ++m) hot[m] = std::max(hot[m], -5.0f);
    std::vector<float> same = hot;  // at temperature 1
    for (size_t m = 0; m < 4; ++m) {
      same[m] /= 2.0f;
      same[8 + m] += 0.69314718f;
    }
    const int32_t token = Sample(hot, 256, {RowOf(2.0f, 5, i)})[0].token;
    EXPECT_NEAR(token, Sample(same, 256, {RowOf(1.0f, 5, i)})[0].token, 1);  // f32 of log 2
  }
}

TEST_P(SampleMixtureTest, WithoutTemperatureTheMeanOfTheLikeliest) {
  const auto greedy = [&](std::vector<float> outputs) {
    return Sample(std::move(outputs), 256, {RowOf(0.0f, 3, 4)})[0].token;
  };
  EXPECT_EQ(greedy({1.0f, 2.0f, 0.0f, 0.5f, 0.2f, 0.0f}), 191);  // 127.5 * 1.5 = 191.25
  EXPECT_EQ(greedy({2.0f, 2.0f, -1.0f, 1.0f, 0.0f, 0.0f}), 0);
  EXPECT_EQ(greedy({0.0f, -40.0f, 0.0f}), 0);
  EXPECT_EQ(greedy({0.0f, 40.0f, 0.0f}), 255);
}

TEST_P(SampleMixtureTest, ExtremesStayFinite) {
  constexpr float kMost = std::numeric_limits<float>::max();
  const std::vector<std::vector<float>> extremes = {
      {0.0f, 0.0f, kMost},   // flat beyond measure: one of the ends
      {0.0f, 0.0f, -kMost},  // as sharp as -7
      {0.0f, kMost, -7.0f},  // far above all values
      {0.0f, -kMost, 3.0f},  // far below
      {kMost, -kMost, 1.0f, -1.0f, 0.0f, 0.0f},
  };
  for (const std::vector<float>& outputs : extremes) {
    for (const float temperature : {0.0f, 1e-30f, 1.0f, 100.0f}) {
      const SampleResult result = Sample(outputs, 256, {RowOf(temperature, 1, 2)})[0];
      EXPECT_GE(result.token, 0);
      EXPECT_LE(result.token, 255);
      EXPECT_TRUE(std::isfinite(result.log_prob));
      EXPECT_LE(result.log_prob, 0.0f);
    }
  }
  // The middle value of a very flat mixture: its width over 4 scales.
  const float flat[] = {0.0f, 0.0f, 30.0f};
  EXPECT_NEAR(cpu::Mixture(flat, 1, 256).LogProb(128), std::log(2.0 / 255.0) - 30 - std::log(4.0),
              1e-6);
  const float sharp[] = {0.0f, 1.0f, -7.0f};
  const double far = cpu::Mixture(sharp, 1, 256).LogProb(0);  // log F: (1 / 255 - 2) e^7
  EXPECT_NEAR(far, (1.0 / 255.0 - 2.0) * std::exp(7.0), 1e-9);
}

TEST_P(SampleMixtureTest, NothingIsChosenWhereAnOutputIsNotFinite) {
  for (size_t i = 0; i < 6; ++i) {
    for (const float bad : {NAN, kInfinity, -kInfinity}) {
      std::vector<float> outputs = {0.1f, 0.2f, 0.3f, 0.4f, -1.0f, -2.0f};
      outputs[i] = bad;
      EXPECT_EQ(Sample(outputs, 256, {RowOf(1.0f, 1, 1)})[0].token, -1) << i << " is " << bad;
    }
  }
}

TEST_P(SampleMixtureTest, SameBitsInEveryBatchOnEveryThreadAndTarget) {
  Numbers numbers(43);
  std::vector<float> all;
  std::vector<SampleRow> rows;
  for (int i = 0; i < 400; ++i) {
    for (const float output : RandomOutputs(numbers, 10)) all.push_back(output);
    rows.push_back(RowOf(i % 7 == 0 ? 0.0f : 1.0f, 11, i));
  }
  const std::vector<SampleResult> together = Sample(all, 256, rows, 3);
  const auto first_target = BackendOf("v2");
  for (size_t i = 0; i < rows.size(); ++i) {
    std::vector<float> one(all.begin() + static_cast<int64_t>(30 * i),
                           all.begin() + static_cast<int64_t>(30 * (i + 1)));
    SampleResult alone;
    first_target->SampleMixture(View(one, {1, 30}), 256, {&rows[i], 1}, {&alone, 1});
    EXPECT_EQ(together[i].token, alone.token);
    EXPECT_EQ(together[i].log_prob, alone.log_prob);
  }
}

TEST_P(SampleMixtureTest, EveryValueIsScoredAsWhenItIsDrawn) {
  Numbers numbers(44);
  const std::vector<float> outputs = RandomOutputs(numbers, 10);
  const Reference reference(outputs, 256);
  std::vector<float> all;
  std::vector<ScoreRow> rows;
  for (int32_t value = 0; value < 256; ++value) {
    all.insert(all.end(), outputs.begin(), outputs.end());
    rows.push_back({.token = value, .alternatives = {}});
  }
  std::vector<ScoreResult> results(rows.size());
  const auto backend = BackendOf(GetParam(), 2);
  backend->ScoreMixture(View(all, {256, 30}), 256, rows, results);
  double sum = 0.0;
  for (int32_t value = 0; value < 256; ++value) {
    const ScoreResult& result = results[static_cast<size_t>(value)];
    ASSERT_TRUE(result.is_finite);
    const double expected = static_cast<double>(std::log(reference.Probability(value)));
    EXPECT_NEAR(result.log_prob, expected, 1e-6 * (1.0 - expected)) << value;
    sum += std::exp(static_cast<double>(result.log_prob));
  }
  EXPECT_NEAR(sum, 1.0, 1e-5);
  const SampleResult drawn = Sample(outputs, 256, {RowOf(1.0f, 6, 7)})[0];
  EXPECT_EQ(drawn.log_prob, results[static_cast<size_t>(drawn.token)].log_prob);
  all[31] = NAN;
  backend->ScoreMixture(View(all, {256, 30}), 256, rows, results);
  EXPECT_TRUE(results[0].is_finite);
  EXPECT_FALSE(results[1].is_finite);
}

TEST_P(SampleMixtureTest, WhatAMixtureCannotDoIsABug) {
  SampleRow row = RowOf(1.0f, 1, 1);
  row.top_k = 3;
  EXPECT_DEATH(Sample({0.0f, 0.0f, 0.0f}, 256, {row}), "top_k");
  EXPECT_DEATH(Sample({0.0f, 0.0f}, 256, {RowOf(1.0f, 1, 1)}), "size");
  EXPECT_DEATH(Sample({0.0f, 0.0f, 0.0f}, 1, {RowOf(1.0f, 1, 1)}), "value_count");
}

INSTANTIATE_TEST_SUITE_P(Cpu, SampleMixtureTest, ::testing::ValuesIn(MachineTargets()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace eddy
