// The products of a recurrence. A weight multiplies at every step, and BLAS would arrange it anew each
// time, which for a step's few rows takes about as long as the product itself: it is packed once. The
// weights' gradients, one product for many rows, are as fast by BLAS.
#pragma once

#include <memory>
#include <optional>

#include "matrix.hpp"
#include "team.hpp"

namespace lnrnn {

class Bfloat16Weight;

// Whether numbers stored as `storage` are multiplied as bfloat16: where the CPU has AMX, unless the
// caller says.
bool in_bfloat16(std::optional<at::ScalarType> storage, std::optional<bool> narrow);

// A matrix that rows are multiplied by again and again. It is arranged for that in panels of a few
// vectors, row after row, the last one as many vectors wide as it needs; a few uses would not pay for
// it and leave the work to BLAS. With `narrow`, what is multiplied is rounded to bfloat16.
template <typename T>
class Weight {
 public:
  Weight() = default;

  Weight(Matrix<T> b, int64_t uses, bool narrow);

  // to = a B + from, for `rows` rows of each, a's and to's lying close together.
  // Of some columns only, if they are asked for; as a whole where it has one part.
  void multiply(int64_t rows, const T* a, Rows<const T> from, T* to, Columns of = {}) const;

  // How many parts the columns can be computed in.
  int64_t parts() const;

 private:
  void pack(int64_t n, T* panel) const;

  Matrix<T> plain_{nullptr, 0, 0};
  int64_t inner_ = 0, width_ = 0;
  Tensor memory_;
  std::shared_ptr<const Bfloat16Weight> narrow_;
};

// The gradient of a weight, the sum of d' a over chunks of rows; with `narrow`, of d and a rounded to
// bfloat16.
template <typename T>
class WeightGradient {
 public:
  // To a matrix (height, width) of zeros, or null where nobody wants it; chunks have `most` rows.
  WeightGradient(T* to, int64_t height, int64_t width, int64_t most, bool narrow);

  bool wanted() const { return to_ != nullptr; }

  void add(int64_t rows, const T* d, const T* a) const;

 private:
  T* to_;
  int64_t height_, width_;
  Tensor rounded_;
};

}  // namespace lnrnn
