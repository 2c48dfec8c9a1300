// SPDX-License-Identifier: Apache-2.0
#include "engine/stop_matcher.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

namespace eddy {
namespace {

struct Outcome {
  std::string text;
  bool stopped = false;
};

// The definition, word for word: the first byte at which a sequence is complete, the longest one
// there.
Outcome Naive(const std::vector<std::string>& sequences, const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const std::string& sequence : sequences) {
      if (end >= sequence.size() &&
          text.compare(end - sequence.size(), sequence.size(), sequence) == 0) {
        longest = std::max(longest, sequence.size());
      }
    }
    if (longest > 0) return {text.substr(0, end - longest), true};
  }
  return {text, false};
}

// Bytes at the end of the text that may yet become a sequence.
size_t MustHold(const std::vector<std::string>& sequences, const std::string& text) {
  size_t longest = 0;
  for (const std::string& sequence : sequences) {
    for (size_t length = 1; length < sequence.size() && length <= text.size(); ++length) {
      if (text.compare(text.size() - length, length, sequence, 0, length) == 0) {
        longest = std::max(longest, length);
      }
    }
  }
  return longest;
}

TEST(StopMatcherTest, WithoutSequencesEverythingPasses) {
  StopMatcher matcher({});
  std::string out;
  EXPECT_FALSE(matcher.Feed("all of it", &out));
  EXPECT_EQ(out, "all of it");
}

TEST(StopMatcherTest, HoldsBackABeginningUntilItIsNone) {
  const std::vector<std::string> sequences = {"\n\nEND"};
  StopMatcher matcher(sequences);
  std::string out;
  EXPECT_FALSE(matcher.Feed("a\n", &out));
  EXPECT_EQ(out, "a");
  EXPECT_FALSE(matcher.Feed("\nEN", &out));
  EXPECT_EQ(out, "a");
  EXPECT_FALSE(matcher.Feed("T\n", &out));
  EXPECT_EQ(out, "a\n\nENT");
  matcher.Flush(&out);
  EXPECT_EQ(out, "a\n\nENT\n");
}

TEST(StopMatcherTest, FindsASequenceAcrossPiecesAndInsideARepetition) {
  const std::vector<std::string> sequences = {"aab"};
  StopMatcher matcher(sequences);
  std::string out;
  EXPECT_FALSE(matcher.Feed("xaa", &out));
  EXPECT_FALSE(matcher.Feed("a", &out));
  EXPECT_TRUE(matcher.Feed("bzzz", &out));
  EXPECT_EQ(out, "xa");
}

TEST(StopMatcherTest, OfSeveralTheOneCompleteFirstThenTheLongest) {
  const std::vector<std::string> sequences = {"abc", "b"};
  StopMatcher first(sequences);
  std::string out;
  EXPECT_TRUE(first.Feed("abc", &out));
  EXPECT_EQ(out, "a");
  const std::vector<std::string> nested = {"c", "abc"};
  StopMatcher longest(nested);
  out.clear();
  EXPECT_TRUE(longest.Feed("xabc", &out));
  EXPECT_EQ(out, "x");
}

TEST(StopMatcherTest, EqualsTheDefinitionHoweverTheTextIsCut) {
  for (uint32_t seed = 0; seed < 20'000; ++seed) {
    std::mt19937 random(seed);
    const auto pick = [&](int low, int high) {
      return std::uniform_int_distribution<int>(low, high)(random);
    };
    const auto word = [&](int length) {
      std::string text;
      while (length-- > 0) text.push_back(static_cast<char>('a' + pick(0, 1)));
      return text;
    };
    std::vector<std::string> sequences;
    for (int i = pick(1, 4); i > 0; --i) sequences.push_back(word(pick(1, 7)));
    const std::string text = word(pick(0, 40));
    const Outcome expected = Naive(sequences, text);

    StopMatcher matcher(sequences);
    std::string out;
    bool stopped = false;
    for (size_t at = 0; at < text.size() && !stopped;) {
      const size_t count = std::min(text.size() - at, static_cast<size_t>(pick(1, 6)));
      stopped = matcher.Feed(text.substr(at, count), &out);
      at += count;
      if (!stopped) {
        ASSERT_EQ(out.size(), at - MustHold(sequences, text.substr(0, at))) << "seed " << seed;
      }
      ASSERT_EQ(out, expected.text.substr(0, out.size())) << "seed " << seed;
    }
    if (!stopped) matcher.Flush(&out);
    ASSERT_EQ(stopped, expected.stopped) << "seed " << seed;
    ASSERT_EQ(out, expected.text) << "seed " << seed;
  }
}

}  // namespace
}  // namespace eddy
