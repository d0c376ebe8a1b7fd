// The products of a recurrence. A weight multiplies at every step, and BLAS would arrange it anew each
// time, which for a step's few rows takes about as long as the product itself: it is packed once. The
// weights' gradients, one product for many rows, are as fast by BLAS.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "bfloat16.hpp"
#include "matrix.hpp"
#include "vectors.hpp"

namespace lnrnn {

// A tile of the product stays in registers, kHigh rows of it by kVectors vectors: as many as there
// are registers for, with those for a row of B and an entry of A.
constexpr int kHigh = 6;
#ifdef CPU_CAPABILITY_AVX512
constexpr int kVectors = 4;
#else
constexpr int kVectors = 2;
#endif

// What one tile needs: its part of A; a slice of a panel of B; where it starts from and goes to.
template <typename T>
struct Tile {
  Rows<const T> a;
  const T* b;
  int64_t inner;      // rows of the slice
  Rows<const T> from;
  Rows<T> to;
  int64_t last;       // entries in the panel's last vector
  const char* ahead;  // what will be read next, fetched `step` bytes a row of the slice
  int64_t step;
};

template <typename T, int kRows, int kWide>
void run_tile(const Tile<T>& tile) {
  constexpr int64_t width = Vec<T>::size();
  const auto each = [](auto body) {  // unrolled, so that sums live in registers
#pragma GCC unroll 8
    for (int m = 0; m < kRows; m++)
#pragma GCC unroll 8
      for (int v = 0; v < kWide; v++) body(m, v);
  };
  const auto whole = [&](int v) { return v + 1 < kWide || tile.last == width; };
  Vec<T> sums[kRows][kWide];
  each([&](int m, int v) {
    const T* from = tile.from.data + m * tile.from.stride + v * width;
    sums[m][v] = tile.from.data == nullptr ? Vec<T>(T(0))
                 : whole(v)                ? Vec<T>::loadu(from)
                                           : Vec<T>::loadu(from, tile.last);
  });
  const char* ahead = tile.ahead;
  for (int64_t k = 0; k < tile.inner; k++, ahead += tile.step) {
    __builtin_prefetch(ahead, 0, 2);
    Vec<T> b[kWide];
#pragma GCC unroll 8
    for (int v = 0; v < kWide; v++) b[v] = Vec<T>::loadu(tile.b + (k * kWide + v) * width);
#pragma GCC unroll 8
    for (int m = 0; m < kRows; m++) {
      const Vec<T> a(tile.a.data[m * tile.a.stride + k]);
#pragma GCC unroll 8
      for (int v = 0; v < kWide; v++) sums[m][v] = at::vec::fmadd(a, b[v], sums[m][v]);
    }
  }
  each([&](int m, int v) {
    T* to = tile.to.data + m * tile.to.stride + v * width;
    if (whole(v)) sums[m][v].store(to);
    else sums[m][v].store(to, static_cast<int>(tile.last));
  });
}

// A matrix that rows are multiplied by again and again. It is arranged for that in panels of kVectors
// vectors, row after row, the last one as many vectors wide as it needs; a few uses would not pay for
// it and leave the work to BLAS. With `narrow`, what is multiplied is rounded to bfloat16.
template <typename T>
class Weight {
 public:
  Weight() = default;

  Weight(Matrix<T> b, int64_t uses, bool narrow)
      : plain_(b), inner_(b.height()), width_(b.width()) {
    if (uses < kWorthPacking) return;
    if constexpr (std::is_same_v<T, float>) {
      if (narrow && std::min(inner_, width_) >= kWorthTiles) {
        narrow_.emplace(b);
        return;
      }
    }
    const int64_t vectors = (width_ + kLanes - 1) / kLanes, panels = (width_ + kPanel - 1) / kPanel;
    memory_ = at::empty({vectors * kLanes * inner_}, c10::CppTypeToScalarType<T>::value);
    T* const packed = memory_.template data_ptr<T>();
    at::parallel_for(0, panels, 1, [&](int64_t low, int64_t high) {
      for (int64_t p = low; p < high; p++) pack(p * kPanel, packed + p * kPanel * inner_);
    });
  }

  // to = a B + from, for `rows` rows of each, a's and to's lying close together.
  void multiply(int64_t rows, const T* a, Rows<const T> from, T* to) const {
    if constexpr (std::is_same_v<T, float>) {
      if (narrow_) return narrow_->multiply(rows, a, from, to);
    }
    if (!memory_.defined()) {
      for (int64_t m = 0; from.data != nullptr && m < rows; m++) {
        std::memmove(to + m * width_, from.data + m * from.stride, width_ * sizeof(T));
      }
      return lnrnn::multiply(to, Matrix<T>{a, rows, inner_}, plain_, from.data != nullptr);
    }
    const T* const packed = memory_.template const_data_ptr<T>();
    for (int64_t n = 0; n < width_; n += kPanel) {
      const Rows<const T> start{from.data == nullptr ? nullptr : from.data + n, from.stride};
      const int64_t columns = std::min(kPanel, width_ - n), vectors = (columns + kLanes - 1) / kLanes;
      const int64_t last = columns - (vectors - 1) * kLanes;
      run_panel(
          {{a, inner_}, packed + n * inner_, 0, start, {to + n, width_}, last, nullptr, 0}, rows,
          vectors);
    }
  }

 private:
  static constexpr int64_t kLanes = Vec<T>::size(), kPanel = kVectors * kLanes;
  static constexpr int64_t kSlice = 128;  // rows of a panel that stay in the first cache
  static constexpr int64_t kWorthPacking = 4;

  // All rows of A pass by one slice of the panel before the next slice is read.
  void run_panel(Tile<T> tile, int64_t rows, int64_t vectors) const {
    const int64_t tiles = (rows + kHigh - 1) / kHigh, row = vectors * kLanes;  // of the slice
    const Tile<T> panel = tile;
    for (int64_t k = 0; k < inner_; k += kSlice) {
      tile.inner = std::min(kSlice, inner_ - k);
      tile.b = panel.b + k * row;
      tile.ahead = reinterpret_cast<const char*>(tile.b + tile.inner * row);
      tile.step = row * static_cast<int64_t>(sizeof(T)) / tiles;
      const Rows<const T> start = k == 0 ? panel.from : Rows<const T>{panel.to.data, panel.to.stride};
      for (int64_t i = 0, m = 0; i < tiles; i++) {
        const int64_t high = (rows - m + tiles - i - 1) / (tiles - i);  // as equal as can be
        tile.a.data = panel.a.data + m * panel.a.stride + k;
        tile.from = {start.data == nullptr ? nullptr : start.data + m * start.stride, start.stride};
        tile.to.data = panel.to.data + m * panel.to.stride;
        kTiles[vectors - 1][high - 1](tile);
        tile.ahead += tile.step * tile.inner;
        m += high;
      }
    }
  }

  void pack(int64_t n, T* panel) const {
    const Matrix<T> b = plain_;
    const int64_t columns = std::min(kPanel, width_ - n);
    const int64_t row = (columns + kLanes - 1) / kLanes * kLanes;
    if (!b.transposed) {
      for (int64_t k = 0; k < inner_; k++) {
        std::memcpy(panel + k * row, b.data + k * b.columns + n, columns * sizeof(T));
      }
      return;
    }
    constexpr int64_t block = 16;
    for (int64_t k = 0; k < inner_; k += block) {  // so that lines read are used up
      const int64_t stop = std::min(k + block, inner_);
      for (int64_t j = 0; j < columns; j++) {
        for (int64_t i = k; i < stop; i++) panel[i * row + j] = b.data[(n + j) * b.columns + i];
      }
    }
  }

  using Run = void (*)(const Tile<T>&);
  template <int kWide>
  static constexpr std::array<Run, kHigh> tiles_of() {
    return {run_tile<T, 1, kWide>, run_tile<T, 2, kWide>, run_tile<T, 3, kWide>,
            run_tile<T, 4, kWide>, run_tile<T, 5, kWide>, run_tile<T, 6, kWide>};
  }
#ifdef CPU_CAPABILITY_AVX512
  static constexpr std::array<std::array<Run, kHigh>, kVectors> kTiles{
      tiles_of<1>(), tiles_of<2>(), tiles_of<3>(), tiles_of<4>()};
#else
  static constexpr std::array<std::array<Run, kHigh>, kVectors> kTiles{tiles_of<1>(), tiles_of<2>()};
#endif

  Matrix<T> plain_{nullptr, 0, 0};
  int64_t inner_ = 0, width_ = 0;
  Tensor memory_;
  std::optional<Bfloat16Weight> narrow_;
};

// The gradient of a weight, the sum of d' a over chunks of rows; with `narrow`, of d and a rounded to
// bfloat16.
template <typename T>
class WeightGradient {
 public:
  // To a matrix (height, width) of zeros, or null where nobody wants it; chunks have `most` rows.
  WeightGradient(T* to, int64_t height, int64_t width, int64_t most, bool narrow)
      : to_(to), height_(height), width_(width) {
    narrow = narrow && to && std::min(height, width) >= kWorthTiles && gemm_bf16bf16f32_ != nullptr;
    if (narrow) rounded_ = at::empty({most * (height + width)}, at::kBFloat16);
  }

  bool wanted() const { return to_ != nullptr; }

  void add(int64_t rows, const T* d, const T* a) const {
    if (!wanted()) return;
    if constexpr (std::is_same_v<T, float>) {
      if (rounded_.defined()) return add_rounded(rows, d, a);
    }
    multiply(to_, Matrix<T>{d, rows, height_}.t(), {a, rows, width_}, true);
  }

 private:
  void add_rounded(int64_t rows, const float* d, const float* a) const {
    at::BFloat16* const left = rounded_.data_ptr<at::BFloat16>();
    at::BFloat16* const right = left + rows * height_;
    round_rows(d, left, rows * height_);
    round_rows(a, right, rows * width_);
    const int m = static_cast<int>(width_), n = static_cast<int>(height_);
    const int k = static_cast<int>(rows);
    const float one = 1;  // column-major, so to' += a' d
    gemm_bf16bf16f32_("N", "T", &m, &n, &k, &one, right, &m, left, &n, &one, to_, &m);
  }

  T* to_;
  int64_t height_, width_;
  Tensor rounded_;
};

}  // namespace lnrnn
