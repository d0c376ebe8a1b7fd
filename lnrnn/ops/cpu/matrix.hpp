// Matrices and rows in memory, and the BLAS that torch brings along.
#pragma once

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <cstdint>
#include <type_traits>

#include "tensors.hpp"

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

// Memory for the rows of all steps. Fresh memory costs a fault a page, as much as all norms of a small
// layer together, so that pages of 2 MiB are asked for where there is room for them.
inline Tensor for_all_rows(at::IntArrayRef sizes, at::ScalarType dtype) {
  const Tensor memory = empty(sizes, dtype);
#ifdef __linux__
  constexpr uintptr_t page = uintptr_t{2} << 20;
  const auto first = reinterpret_cast<uintptr_t>(memory.const_data_ptr());
  const uintptr_t low = (first + page - 1) / page * page, high = (first + memory.nbytes()) / page * page;
  // Advice that a kernel without such pages refuses is not missed.
  if (low < high) madvise(reinterpret_cast<void*>(low), high - low, MADV_HUGEPAGE);
#endif
  return memory;
}

inline Tensor for_all_rows(at::IntArrayRef sizes, const Tensor& like) {
  return for_all_rows(sizes, like.scalar_type());
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

// As `multiply`, by torch's mm (programs.cpp).
template <typename T>
void multiply_by_torch(T* out, Matrix<T> a, Matrix<T> b, bool keep);

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
  multiply_by_torch(out, a, b, keep);
}

// Rows in memory, `stride` entries apart: 0 repeats one row, null is rows of zeros.
template <typename T>
struct Rows {
  T* data;
  int64_t stride;
};

}  // namespace lnrnn
