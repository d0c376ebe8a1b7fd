// Products of bfloat16 with sums in float32, for CPUs that have AMX: what is multiplied is rounded on
// the way in, and everything around stays float32. They are oneDNN's, through torch, since a compiler
// may know nothing of AMX; oneDNN also does them on AVX-512 alone, slower than float32, for tests.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>
#include <c10/util/BFloat16.h>

#include <algorithm>

#include "matrix.hpp"
#include "vectors.hpp"

// MKL's, where torch has it.
extern "C" __attribute__((weak)) void gemm_bf16bf16f32_(
    const char*, const char*, const int*, const int*, const int*, const float*,
    const at::BFloat16*, const int*, const at::BFloat16*, const int*, const float*, float*,
    const int*);

namespace lnrnn {

// From so many entries on each side of a matrix on: tiles hold 16 by 32, and smaller ones are mostly
// zeros.
constexpr int64_t kWorthTiles = 16;

inline int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// A matrix that rows are multiplied by again and again, in bfloat16. It is arranged in panels of 64
// columns, in which two rows lie interleaved, as dot products of pairs want them. Rows, columns and
// the sum's length are filled up with zeros to a few sizes, since oneDNN compiles a product anew for
// every size, and each thread keeps what it has compiled: 64 of them at most, in all.
class Bfloat16Weight {
 public:
  using Number = at::BFloat16;

  explicit Bfloat16Weight(Matrix<float> b)
      : inner_(b.height()), depth_(round_up(inner_, kPairs)), width_(b.width()) {
    const int64_t panels = (width_ + kPanel - 1) / kPanel;
    memory_ = zeros({panels * kPanel * depth_}, at::kBFloat16);
    Number* const packed = memory_.data_ptr<Number>();
    at::parallel_for(0, panels, 1, [&](int64_t low, int64_t high) {
      for (int64_t p = low; p < high; p++) pack(b, p * kPanel, packed + p * kPanel * depth_);
    });
  }

  // As Weight's.
  void multiply(int64_t rows, const float* a, Rows<const float> from, float* to) const {
    Block block;
    for (int64_t m = 0; m < rows; m += kHigh) {
      for (int64_t k = 0; k < inner_; k += kBlock) {
        block.high = std::min(kHigh, rows - m);
        block.deep = std::min(kBlock, depth_ - k);
        block.read(a + m * inner_ + k, inner_, std::min(kBlock, inner_ - k));
        const Rows<const float> start = k == 0 ? from : Rows<const float>{to, width_};
        for (int64_t n = 0; n < width_; n += kPanel) {
          const int64_t at = m * start.stride + n;
          add_panel(
              block, memory_.const_data_ptr<Number>() + n * depth_ + k * kPanel,
              {start.data == nullptr ? nullptr : start.data + at, start.stride},
              {to + m * width_ + n, width_}, std::min(kPanel, width_ - n));
        }
      }
    }
    at::native::cpublas::brgemm_release();  // this thread may go on to others' tiles
  }

 private:
  static constexpr int64_t kPanel = 64, kHigh = 64;
  static constexpr int64_t kTile = 16;    // rows are filled up to a multiple of it
  static constexpr int64_t kPairs = 32;   // and the sum's length to one of this
  static constexpr int64_t kSlice = 256;  // rows of a panel that stay in the first cache
  static constexpr int64_t kBlock = 4 * kSlice;  // of the sum, between two visits of the result

  // Rows of A, rounded. Their distance is no power of two, of which a cache holds few.
  struct Block {
    static constexpr int64_t kStride = kBlock + kPairs;
    alignas(64) Number data[kHigh * kStride];
    int64_t high, deep;

    void read(const float* from, int64_t stride, int64_t count) {
      for (int64_t m = 0; m < round_up(high, kTile); m++) {
        Number* const row = data + m * kStride;
        const int64_t given = m < high ? count : 0;
        if (given > 0) at::vec::convert(from + m * stride, row, given);
        std::fill(row + given, row + deep, Number(0));
      }
    }
  };

  // to = (the block's rows) (a panel from some row on) + from.
  static void add_panel(
      const Block& block, const Number* panel, Rows<const float> from, Rows<float> to,
      int64_t columns) {
    alignas(64) float sums[kHigh * kPanel];
    for (int64_t k = 0; k < block.deep; k += kSlice) {
      at::native::cpublas::brgemm(
          round_up(block.high, kTile), kPanel, std::min(kSlice, block.deep - k), Block::kStride,
          kPanel, kPanel, k > 0, block.data + k, panel + k * kPanel, sums);
    }
    for (int64_t m = 0; m < block.high; m++) {
      sweep<float>(columns, [&](int64_t j, auto lanes) {
        Vec<float> sum = lanes.load(sums + m * kPanel + j);
        if (from.data != nullptr) sum = sum + lanes.load(from.data + m * from.stride + j);
        lanes.store(to.data + m * to.stride + j, sum);
      });
    }
  }

  void pack(Matrix<float> b, int64_t n, Number* panel) const {
    const int64_t columns = std::min(kPanel, width_ - n);
    const auto place = [&](int64_t k, int64_t j) -> Number& {
      return panel[(k / 2 * kPanel + j) * 2 + k % 2];
    };
    Number line[kPanel];
    if (!b.transposed) {
      for (int64_t k = 0; k < inner_; k++) {
        at::vec::convert(b.data + k * b.columns + n, line, columns);
        for (int64_t j = 0; j < columns; j++) place(k, j) = line[j];
      }
      return;
    }
    for (int64_t k = 0; k < inner_; k += kPairs) {  // so that lines read are used up
      const int64_t count = std::min(kPairs, inner_ - k);
      for (int64_t j = 0; j < columns; j++) {
        at::vec::convert(b.data + (n + j) * b.columns + k, line, count);
        for (int64_t i = 0; i < count; i++) place(k + i, j) = line[i];
      }
    }
  }

  int64_t inner_, depth_, width_;  // depth: inner, filled up
  Tensor memory_;
};

// A copy rounded to bfloat16, row after row.
inline void round_rows(const float* from, at::BFloat16* to, int64_t count) {
  at::parallel_for(0, count, 1 << 15, [&](int64_t low, int64_t high) {
    at::vec::convert(from + low, to + low, high - low);
  });
}

}  // namespace lnrnn
