// Matrix products: torch's BLAS for those that stand alone, and a packed one for a matrix that
// multiplies at every step. BLAS arranges such a matrix anew each time, which for a step's few rows
// takes about as long as the product itself.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <algorithm>
#include <array>
#include <cstring>

#include "vectors.hpp"

// The BLAS that torch brings along. Where a build of torch hides it, torch's mm takes its place.
extern "C" {
__attribute__((weak)) void sgemm_(
    const char*, const char*, const int*, const int*, const int*, const float*, const float*,
    const int*, const float*, const int*, const float*, float*, const int*);
__attribute__((weak)) void dgemm_(
    const char*, const char*, const int*, const int*, const int*, const double*, const double*,
    const int*, const double*, const int*, const double*, double*, const int*);
}

namespace lnrnn {

using at::Tensor;

// Memory for the rows of all steps. Fresh memory costs a fault a page, as much as all norms of a small
// layer together, so that pages of 2 MiB are asked for where there is room for them.
inline Tensor for_all_rows(at::IntArrayRef sizes, const Tensor& like) {
  const Tensor memory = at::empty(sizes, like.options());
#ifdef __linux__
  constexpr uintptr_t page = uintptr_t{2} << 20;
  const auto first = reinterpret_cast<uintptr_t>(memory.const_data_ptr());
  const uintptr_t low = (first + page - 1) / page * page, high = (first + memory.nbytes()) / page * page;
  // Advice that a kernel without such pages refuses is not missed.
  if (low < high) madvise(reinterpret_cast<void*>(low), high - low, MADV_HUGEPAGE);
#endif
  return memory;
}

// A matrix in memory, row after row, read as it lies or transposed.
template <typename T>
struct Matrix {
  const T* data;
  int64_t rows, columns;  // as it lies
  bool transposed = false;

  Matrix t() const { return {data, rows, columns, !transposed}; }
  int64_t height() const { return transposed ? columns : rows; }
  int64_t width() const { return transposed ? rows : columns; }
};

// out = a b + keep * out, with out (a's height, b's width) and keep 0 or 1.
template <typename T>
inline void multiply(T* out, Matrix<T> a, Matrix<T> b, bool keep = false) {
  if (a.height() == 0) return;
  const auto blas = [] {
    if constexpr (std::is_same_v<T, float>) return sgemm_;
    else return dgemm_;
  }();
  if (blas != nullptr) {  // column-major, so out' = b' a'
    const int m = static_cast<int>(b.width()), n = static_cast<int>(a.height());
    const int k = static_cast<int>(a.width());
    const int a_stride = static_cast<int>(a.columns), b_stride = static_cast<int>(b.columns);
    const T one(1), beta(keep ? 1 : 0);
    blas(b.transposed ? "T" : "N", a.transposed ? "T" : "N", &m, &n, &k, &one, b.data, &b_stride,
         a.data, &a_stride, &beta, out, &m);
    return;
  }
  const auto view = [](const T* data, int64_t r, int64_t c) {
    return at::from_blob(const_cast<T*>(data), {r, c}, c10::CppTypeToScalarType<T>::value);
  };
  Tensor result = view(out, a.height(), b.width()), left = view(a.data, a.rows, a.columns);
  Tensor right = view(b.data, b.rows, b.columns);
  left = a.transposed ? left.t() : left;
  right = b.transposed ? right.t() : right;
  if (keep) result.add_(left.mm(right));
  else at::mm_out(result, left, right);
}

// Rows in memory, `stride` entries apart: 0 repeats one row, null is rows of zeros.
template <typename T>
struct Rows {
  T* data;
  int64_t stride;
};

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
// it and leave the work to BLAS.
template <typename T>
class Weight {
 public:
  Weight() = default;

  Weight(Matrix<T> b, int64_t uses) : plain_(b), inner_(b.height()), width_(b.width()) {
    if (uses < kWorthPacking) return;
    const int64_t vectors = (width_ + kLanes - 1) / kLanes, panels = (width_ + kPanel - 1) / kPanel;
    memory_ = at::empty({vectors * kLanes * inner_}, c10::CppTypeToScalarType<T>::value);
    T* const packed = memory_.template data_ptr<T>();
    at::parallel_for(0, panels, 1, [&](int64_t low, int64_t high) {
      for (int64_t p = low; p < high; p++) pack(p * kPanel, packed + p * kPanel * inner_);
    });
  }

  // to = a B + from, for `rows` rows of each, a's and to's lying close together.
  void multiply(int64_t rows, const T* a, Rows<const T> from, T* to) const {
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
};

}  // namespace lnrnn
