// SPDX-License-Identifier: Apache-2.0
#include "client/image_command.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <ostream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "client/connection_flags.h"
#include "client/failure.h"
#include "client/image_grid.h"
#include "client/interrupt.h"
#include "client/pixels.h"
#include "client/sampling_flags.h"
#include "client/table.h"

namespace eddy {
namespace {

constexpr char kExamples[] = R"(Examples:
  eddy image --seed 3                          one image, drawn as it comes
  eddy image --grid 8x4 --png digits.png --scale 3
  eddy image --given half.png --rows 14 --grid 4x1     four ways to complete its upper half

Needs a model of images (eddy models get --json: "image"). A terminal gets half blocks in 24-bit
colour, a file or a pipe plain text. Image i of a grid, counted from 0, has the seed SEED + i.)";

constexpr uint32_t kImagesMax = 256;
constexpr uint64_t kValuesMax = uint64_t{1} << 26;  // of a grid, in the file
constexpr std::chrono::milliseconds kDrawInterval(50);

struct ImageFlags {
  std::string model;
  std::string grid = "1x1";
  std::string given;
  std::optional<uint32_t> given_rows;
  std::string png;
  uint32_t scale = 1;
  std::optional<float> temperature;
  std::optional<uint64_t> seed;
  bool verbose = false;
};

// "COLUMNSxROWS"; false for anything else, or more than kImagesMax images.
bool ParseGrid(const std::string& text, uint32_t* columns, uint32_t* rows) {
  const char* const end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, *columns);
  if (first.ec != std::errc() || first.ptr == end || *first.ptr != 'x') return false;
  const auto second = std::from_chars(first.ptr + 1, end, *rows);
  return second.ec == std::errc() && second.ptr == end && *columns > 0 && *rows > 0 &&
         uint64_t{*columns} * *rows <= kImagesMax;
}

std::string CheckGrid(const std::string& text) {
  uint32_t columns = 0, rows = 0;
  if (ParseGrid(text, &columns, &rows)) return "";
  std::string sentence = "is ";
  return sentence.append(text)
      .append(", not COLUMNSxROWS with at most ")
      .append(std::to_string(kImagesMax))
      .append(" images");
}

// What is wrong with so many images of the format that a server tells, as a sentence; empty if
// nothing is.
std::string CheckFormat(const v1::ImageFormat& format, uint32_t image_count, uint32_t scale) {
  const bool sound = format.width() > 0 && format.height() > 0 &&
                     (format.channels() == 1 || format.channels() == 3);
  const uint64_t values_max = kValuesMax / (uint64_t{image_count} * scale * scale);
  if (sound && format.width() <= values_max &&
      uint64_t{format.width()} * format.height() <= values_max / format.channels()) {
    return "";
  }
  std::string sentence = std::to_string(image_count);
  return sentence.append(" images of ")
      .append(std::to_string(format.width()))
      .append(" x ")
      .append(std::to_string(format.height()))
      .append(" x ")
      .append(std::to_string(format.channels()))
      .append(" at scale ")
      .append(std::to_string(scale))
      .append(" cannot be drawn: sides of at least 1, 1 or 3 channels and at most ")
      .append(std::to_string(kValuesMax))
      .append(" values in all can");
}

// What all images of a run begin with.
struct Start {
  Pixels image;            // black but for the given rows
  size_t value_count = 0;  // that are there already
  v1::GenerateRequest request;
};

// Gives a sentence if the flags do not fit the model, else nothing.
std::string MakeStart(const ImageFlags& flags, const v1::Model& model, Start* start) {
  const v1::ImageFormat& format = model.image();
  start->image = Pixels(format.width(), format.height(), format.channels(), 0);
  if (!flags.given.empty()) {
    Pixels given;
    if (std::string problem = ReadPng(flags.given, format.channels(), &given); !problem.empty()) {
      return problem;
    }
    const uint32_t rows = flags.given_rows.value_or(std::min(given.height, format.height() / 2));
    if (given.width != format.width() || rows > given.height || rows >= format.height()) {
      std::string sentence = flags.given;
      return sentence.append(" has ")
          .append(std::to_string(given.width))
          .append(" x ")
          .append(std::to_string(given.height))
          .append(" pixels; of it ")
          .append(std::to_string(rows))
          .append(" rows are to start an image of ")
          .append(std::to_string(format.width()))
          .append(" x ")
          .append(std::to_string(format.height()));
    }
    start->value_count = size_t{rows} * format.width() * format.channels();
    std::copy_n(given.values.begin(), start->value_count, start->image.values.begin());
  }
  if (!format.has_start_token() && start->value_count == 0) start->value_count = 1;  // black
  v1::GenerateRequest& request = start->request;
  request.set_model(flags.model);
  google::protobuf::RepeatedField<uint32_t>& ids =
      *request.mutable_prompt()->mutable_token_ids()->mutable_ids();
  if (format.has_start_token()) ids.Add(format.start_token());
  for (size_t i = 0; i < start->value_count; ++i) ids.Add(start->image.values[i]);
  request.mutable_stop()->set_max_tokens(
      static_cast<uint32_t>(start->image.values.size() - start->value_count));
  if (flags.temperature.has_value()) {
    request.mutable_sampling()->set_temperature(*flags.temperature);
  }
  return "";
}

// One call for each image, all at once, each on its own thread.
class Painter {
 public:
  Painter(Client& client, const Start& start, uint64_t seed, ImageGrid& grid)
      : client_(client), start_(start), seed_(seed), grid_(grid), calls_(grid.image_count()) {
    for (auto& call : calls_) call = std::make_unique<grpc::ClientContext>();
    running_ = grid.image_count();
    for (uint32_t i = 0; i < grid.image_count(); ++i) {
      threads_.emplace_back([this, i] { Paint(i); });
    }
  }
  ~Painter() {
    for (std::thread& thread : threads_) thread.join();
  }
  Painter(const Painter&) = delete;
  Painter& operator=(const Painter&) = delete;

  // Any thread.
  void Cancel() {
    for (auto& call : calls_) call->TryCancel();
  }
  // True when nothing runs any more; waits for it no longer than so.
  bool AwaitEnd(std::chrono::milliseconds time) {
    std::unique_lock lock(mutex_);
    return ended_.wait_for(lock, time, [this] { return running_ == 0; });
  }
  // Of all; the first that failed cancelled the rest. After the end.
  const grpc::Status& status() const { return status_; }
  const grpc::ClientContext* failed_call() const { return failed_call_; }
  size_t generated_count() const { return generated_count_; }

 private:
  void Paint(uint32_t index) {
    v1::GenerateRequest request = start_.request;
    request.mutable_sampling()->set_seed(seed_ + index);
    size_t value_count = start_.value_count;
    const auto on_message = [&](const v1::GenerateResponse& message) {
      const std::vector<uint8_t> values(message.token_ids().begin(), message.token_ids().end());
      grid_.Set(index, value_count, values);
      value_count += values.size();
      generated_count_ += values.size();
      return true;
    };
    const grpc::Status status = client_.Generate(*calls_[index], request, on_message, nullptr);
    const std::lock_guard lock(mutex_);
    if (!status.ok() && status_.ok()) {
      status_ = status;
      failed_call_ = calls_[index].get();
      Cancel();
    }
    --running_;
    ended_.notify_all();
  }

  Client& client_;
  const Start& start_;
  const uint64_t seed_;
  ImageGrid& grid_;
  std::vector<std::unique_ptr<grpc::ClientContext>> calls_;  // constant after construction
  std::atomic<size_t> generated_count_{0};

  std::mutex mutex_;
  std::condition_variable ended_;
  uint32_t running_ = 0;                              // guarded by mutex_
  grpc::Status status_;                               // guarded by mutex_ until the end
  const grpc::ClientContext* failed_call_ = nullptr;  // likewise
  std::vector<std::thread> threads_;
};

// A drawing larger than the terminal cannot be drawn over.
bool FitsTerminal(const ImageGrid& grid) {
  winsize size = {};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return true;
  return grid.text_columns() <= size.ws_col && grid.text_lines() < size.ws_row;
}

int RunImage(const ImageFlags& flags, CommandContext& context) {
  Console& console = context.console;
  Client client(MakeClientOptions(context));
  v1::Model model;
  if (const grpc::Status status = client.GetModel(flags.model, &model); !status.ok()) {
    return ReportFailure(console, status, context.server);
  }
  if (!model.has_image()) {
    std::string sentence = "model \"";
    return ReportUsage(console, sentence.append(model.name()).append("\" makes no images"));
  }
  uint32_t columns = 0, rows = 0;
  ParseGrid(flags.grid, &columns, &rows);
  Start start;
  std::string problem = CheckFormat(model.image(), columns * rows, flags.scale);
  if (problem.empty()) problem = MakeStart(flags, model, &start);
  if (!problem.empty()) return ReportUsage(console, problem);
  ImageGrid grid(start.image, columns, rows);
  const bool draws = console.out_is_terminal && FitsTerminal(grid);
  const uint64_t seed = flags.seed.value_or(std::random_device()());

  const auto begun = std::chrono::steady_clock::now();
  Painter painter(client, start, seed, grid);
  Interrupt::Scope interrupt(console.interrupt, [&painter] { painter.Cancel(); });
  while (!painter.AwaitEnd(kDrawInterval)) {
    if (draws) grid.Draw(console.out);
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  if (draws) grid.Draw(console.out);
  if (interrupt.interrupted() && !painter.status().ok()) {
    console.err << "eddy: CANCELLED: interrupted by Ctrl-C" << std::endl;
    return kExitInterrupted;
  }
  if (!painter.status().ok()) {
    return ReportFailure(console, painter.status(), context.server, painter.failed_call());
  }
  if (!draws && flags.png.empty()) console.out << DrawPlain(grid.Snapshot()) << std::flush;
  if (!flags.png.empty()) {
    problem = WritePng(flags.png, grid.Snapshot(), flags.scale);
    if (!problem.empty()) {
      console.err << "eddy: " << problem << std::endl;
      return kExitFailed;
    }
  }
  if (flags.verbose || console.err_is_terminal) {
    console.err << "eddy: " << grid.image_count() << " of " << model.image().width() << " x "
                << model.image().height() << " in " << FormatNumber(seconds, 2) << " s, "
                << FormatNumber(static_cast<double>(painter.generated_count()) / seconds, 0)
                << " values/s, seed " << seed << std::endl;
  }
  return kExitOk;
}

}  // namespace

void AddImageCommand(CLI::App& app, CommandContext& context) {
  const auto flags = std::make_shared<ImageFlags>();
  CLI::App* const command = app.add_subcommand("image", "Draw images of a model of images");
  AddServerFlag(*command, context);
  command->add_option("--model", flags->model, "The model; default: the only one served")
      ->type_name("NAME")
      ->check(CheckUtf8);
  command->add_option("--grid", flags->grid, "Several images at once; default: 1x1")
      ->type_name("COLUMNSxROWS")
      ->check(CheckGrid);
  CLI::Option* const given =
      command->add_option("--given", flags->given, "A PNG file that the images begin with")
          ->type_name("FILE");
  command
      ->add_option("--rows", flags->given_rows,
                   "How many rows of it; default: all, at most half an image")
      ->type_name("N")
      ->check(CheckWholeNumber)
      ->needs(given);
  command->add_option("--png", flags->png, "Write the images to this PNG file")->type_name("FILE");
  command->add_option("--scale", flags->scale, "Pixels of the file a pixel is wide; default: 1")
      ->type_name("N")
      ->check(CLI::Range(1u, 64u));
  command
      ->add_option("--temperature", flags->temperature,
                   "0: no chance at all; default: the server's, 1")
      ->type_name("T");
  command->add_option("--seed", flags->seed, "The same seed draws the same images; default: any")
      ->type_name("SEED")
      ->check(CheckWholeNumber);
  command->add_flag("--verbose", flags->verbose,
                    "Print pace and seed at the end even if the standard error is no terminal");
  command->footer(kExamples);
  command->callback([flags, &context] { context.exit_code = RunImage(*flags, context); });
}

}  // namespace eddy
