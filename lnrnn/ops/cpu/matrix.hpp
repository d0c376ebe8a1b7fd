// Matrices and rows in memory, and the BLAS that torch brings along.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <cstdint>
#include <type_traits>

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
inline Tensor for_all_rows(at::IntArrayRef sizes, const at::TensorOptions& options) {
  const Tensor memory = at::empty(sizes, options);
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
  return for_all_rows(sizes, like.options());
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

}  // namespace lnrnn
