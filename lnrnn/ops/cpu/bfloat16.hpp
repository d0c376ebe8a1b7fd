// Products of bfloat16 with sums in float32, for CPUs that have AMX: what is multiplied is rounded on
// the way in, or split into two numbers, and everything around stays float32. They are oneDNN's, through
// torch, which also does them on AVX-512 alone, slower than float32, for tests; or those of amx.hpp.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>

#include <algorithm>

#include "amx.hpp"
#include "matrix.hpp"
#include "rounding.hpp"
#include "vectors.hpp"

// MKL's, where torch has it.
extern "C" __attribute__((weak)) void gemm_bf16bf16f32_(
    const char*, const char*, const int*, const int*, const int*, const float*,
    const at::BFloat16*, const int*, const at::BFloat16*, const int*, const float*, float*,
    const int*);

namespace lnrnn {

// A matrix that rows are multiplied by again and again, in bfloat16. It is arranged in panels of 64
// columns, in which two rows lie interleaved, as dot products of pairs want them. Rows, columns and
// the sum's length are filled up with zeros to a few sizes, since oneDNN compiles a product anew for
// every size, and each thread keeps what it has compiled: 64 of them at most, in all.
class Bfloat16Weight {
 public:
  using Number = at::BFloat16;

  Bfloat16Weight(Matrix<float> b, Products products)
      : inner_(b.height()), depth_(round_up(inner_, kPairs)), width_(b.width()), products_(products) {
    const int64_t panels = (width_ + kPanel - 1) / kPanel;
    memory_ = zeros({products.parts(), panels * kPanel * depth_}, at::kBFloat16);
    Number* const packed = memory_.data_ptr<Number>();
    const Parts<Number> parts{packed, packed + (products.parts() - 1) * panels * kPanel * depth_};
    at::parallel_for(0, panels, 1, [&](int64_t low, int64_t high) {
      for (int64_t p = low; p < high; p++) pack(b, p * kPanel, parts.at(p * kPanel * depth_));
    });
  }

  // As Weight's. The rounded rows go to `taker`, too, from its row `at` on, if there is one.
  void multiply(
      int64_t rows, const float* a, Rows<const float> from, float* to, const TileGradient* taker,
      int64_t at) const {
    if (products_.by == Products::onednn) {
      each_panel(rows, a, from, to, nullptr, 0, add_panel);
      return at::native::cpublas::brgemm_release();  // this thread may go on to others' tiles
    }
    with_tiles(products_, [&](auto& tiles) {
      const auto add = [&](const Block& block, Parts<const Number> panel, Rows<const float> start,
                           Rows<float> end, int64_t columns) {
        const TileOperand left{block.parts(), kTileRows * Block::kStride, kPairs, 2 * Block::kStride};
        const TileOperand right{panel, 2 * kTileRows, kPairs * kPanel, 4 * kPanel};
        multiply_tiles(
            tiles, left, right, block.deep / kPairs, products_, {start, end, block.high, columns});
      };
      each_panel(rows, a, from, to, taker, at, add);
    });
  }

 private:
  static constexpr int64_t kPanel = 64, kHigh = 64;
  static constexpr int64_t kTile = 16;    // rows are filled up to a multiple of it
  static constexpr int64_t kPairs = 32;   // and the sum's length to one of this
  static constexpr int64_t kSlice = 256;  // rows of a panel that stay in the first cache
  static constexpr int64_t kBlock = 4 * kSlice;  // of the sum, between two visits of the result

  // Rows of A, rounded, and filled up with zeros. Their distance is no power of two, of which a cache
  // holds few.
  struct Block {
    static constexpr int64_t kStride = kBlock + kPairs;
    Products products;
    int64_t high, deep;
    alignas(64) Number rounded[kHigh * kStride], rest[kHigh * kStride];

    Parts<const Number> parts() const { return {rounded, rest}; }

    // The same rows elsewhere, from an entry on.
    void copy(int64_t count, const TileGradient& to, int64_t row, int64_t entry) const {
      for (int64_t m = 0; m < high; m++) {
        const Parts<Number> line = to.row(row + m).at(entry);
        std::copy_n(rounded + m * kStride, count, line.high);
        if (products.parts() == 2) std::copy_n(rest + m * kStride, count, line.low);
      }
    }

    void read(const float* from, int64_t stride, int64_t count) {
      for (int64_t m = 0; m < round_up(high, kTile); m++) {
        const Parts<Number> row{rounded + m * kStride, rest + m * kStride};
        const int64_t given = m < high ? count : 0;
        if (given > 0) round_row(from + m * stride, row, given, products);
        std::fill(row.high + given, row.high + deep, Number(0));
        if (products.parts() == 2) std::fill(row.low + given, row.low + deep, Number(0));
      }
    }
  };

  // Calls add(block of A, part of a panel, from, to, columns) until all of A has passed by all of B.
  template <class Add>
  void each_panel(
      int64_t rows, const float* a, Rows<const float> from, float* to, const TileGradient* taker,
      int64_t at, Add add) const {
    Block block;  // its memory is not set
    block.products = products_;
    const Number* const packed = memory_.const_data_ptr<Number>();
    const Parts<const Number> parts{packed, packed + memory_.numel() / products_.parts()};
    for (int64_t m = 0; m < rows; m += kHigh) {
      for (int64_t k = 0; k < inner_; k += kBlock) {
        block.high = std::min(kHigh, rows - m);
        block.deep = std::min(kBlock, depth_ - k);
        const int64_t count = std::min(kBlock, inner_ - k);
        block.read(a + m * inner_ + k, inner_, count);
        if (taker != nullptr) block.copy(count, *taker, at + m, k);
        const Rows<const float> start = k == 0 ? from : Rows<const float>{to, width_};
        for (int64_t n = 0; n < width_; n += kPanel) {
          const int64_t first = m * start.stride + n;
          add(block, parts.at(n * depth_ + k * kPanel),
              Rows<const float>{start.data == nullptr ? nullptr : start.data + first, start.stride},
              Rows<float>{to + m * width_ + n, width_}, std::min(kPanel, width_ - n));
        }
      }
    }
  }

  // to = (the block's rows) (a panel from some row on) + from, by oneDNN.
  static void add_panel(
      const Block& block, Parts<const Number> panel, Rows<const float> from, Rows<float> to,
      int64_t columns) {
    alignas(64) float sums[kHigh * kPanel];
    bool keep = false;
    for (int64_t k = 0; k < block.deep; k += kSlice) {
      const auto add = [&](const Number* a, const Number* b) {
        at::native::cpublas::brgemm(
            round_up(block.high, kTile), kPanel, std::min(kSlice, block.deep - k), Block::kStride,
            kPanel, kPanel, keep, a, b, sums);
        keep = true;
      };
      each_product(block.parts().at(k), panel.at(k * kPanel), block.products, add);
    }
    for (int64_t m = 0; m < block.high; m++) {
      sweep<float>(columns, [&](int64_t j, auto lanes) {
        Vec<float> sum = lanes.load(sums + m * kPanel + j);
        if (from.data != nullptr) sum = sum + lanes.load(from.data + m * from.stride + j);
        lanes.store(to.data + m * to.stride + j, sum);
      });
    }
  }

  void pack(Matrix<float> b, int64_t n, Parts<Number> panel) const {
    const int64_t columns = std::min(kPanel, width_ - n);
    Number line[kPanel], rest[kPanel];
    const auto place = [&](int64_t i, int64_t k, int64_t j) {
      const int64_t at = (k / 2 * kPanel + j) * 2 + k % 2;
      panel.high[at] = line[i];
      if (products_.parts() == 2) panel.low[at] = rest[i];
    };
    if (!b.transposed) {
      for (int64_t k = 0; k < inner_; k++) {
        round_row(b.data + k * b.columns + n, {line, rest}, columns, products_);
        for (int64_t j = 0; j < columns; j++) place(j, k, j);
      }
      return;
    }
    for (int64_t k = 0; k < inner_; k += kPairs) {  // so that lines read are used up
      const int64_t count = std::min(kPairs, inner_ - k);
      for (int64_t j = 0; j < columns; j++) {
        round_row(b.data + (n + j) * b.columns + k, {line, rest}, count, products_);
        for (int64_t i = 0; i < count; i++) place(i, k + i, j);
      }
    }
  }

  int64_t inner_, depth_, width_;  // depth: inner, filled up
  Products products_;
  Tensor memory_;
};

}  // namespace lnrnn
