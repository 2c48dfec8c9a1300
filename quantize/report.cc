// SPDX-License-Identifier: Apache-2.0
#include "quantize/report.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace eddy {

std::string FormatReport(const QuantiseReport& report) {
  size_t width = 6;
  int64_t before = 0, after = 0;
  for (const QuantisedTensor& tensor : report.tensors) {
    width = std::max(width, tensor.name.size());
    before += tensor.bytes_before;
    after += tensor.bytes_after;
  }
  const int columns = static_cast<int>(width);
  std::string text =
      absl::StrFormat("%-*s  %16s  %14s  %13s  %12s  %12s\n", columns, "matrix", "shape",
                      "relative error", "largest error", "bytes before", "bytes after");
  for (const QuantisedTensor& tensor : report.tensors) {
    absl::StrAppendFormat(&text, "%-*s  %16s  %14.6f  %13.3g  %12d  %12d\n", columns, tensor.name,
                          tensor.shape.ToString(), tensor.relative_error, tensor.error_max,
                          tensor.bytes_before, tensor.bytes_after);
  }
  absl::StrAppendFormat(&text, "%-*s  %16s  %14s  %13s  %12d  %12d\n", columns, "all", "", "", "",
                        before, after);
  if (!report.left.empty()) {
    absl::StrAppend(&text, "quantised when loaded, as they have an odd number of columns: ",
                    absl::StrJoin(report.left, ", "), "\n");
  }
  if (!report.tables.empty()) {
    absl::StrAppend(&text, "quantised when loaded, as they are embedding tables, too: ",
                    absl::StrJoin(report.tables, ", "), "\n");
  }
  absl::StrAppendFormat(&text, "model.safetensors: %d bytes before, %d after (%.1f %%)\n",
                        report.file_bytes_before, report.file_bytes_after,
                        100.0 * static_cast<double>(report.file_bytes_after) /
                            static_cast<double>(std::max<int64_t>(report.file_bytes_before, 1)));
  return text;
}

std::string FormatLosses(const TextPart& text, const std::vector<LossRow>& rows) {
  std::string out = absl::StrFormat("loss on %s from byte %d, %d bytes:\n", text.path,
                                    text.begin_byte, text.bytes.size());
  absl::StrAppendFormat(&out, "%-8s  %-12s  %13s  %9s  %20s\n", "weights", "numeric path",
                        "nats per byte", "more", "perplexity per token");
  for (const LossRow& row : rows) {
    const double nats = row.loss.nats_per_byte();
    absl::StrAppendFormat(&out, "%-8s  %-12s  %13.5f  %+9.5f  %20.4f\n", DTypeName(row.dtype),
                          row.numeric_path, nats, nats - rows[0].loss.nats_per_byte(),
                          row.loss.perplexity());
  }
  return out;
}

}  // namespace eddy
