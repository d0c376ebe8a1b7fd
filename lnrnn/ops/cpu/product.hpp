// The products of a recurrence. A weight multiplies at every step, and BLAS would arrange it anew each
// time, which for a step's few rows takes about as long as the product itself: it is packed once. The
// weights' gradients, one product for many rows, are as fast by BLAS.
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "matrix.hpp"
#include "team.hpp"

namespace lnrnn {

class Bfloat16Weight;
class TileGradient;

// How many products of bfloat16 stand for one of float32: 0, which is float32 itself, 1 of the numbers
// rounded, or 3 of numbers that are sums of two, where the product of the small parts is left out.
struct Products {
  int narrow = 0;
  // Whose they are: oneDNN's, by AMX's tiles, or by plain loops that stand for tiles in tests.
  enum By { onednn, amx, plain } by = onednn;

  int parts() const { return narrow == 3 ? 2 : 1; }  // of a number
};

// What numbers stored as `storage` (float32 or wider, if none) are multiplied by: as the caller says
// ("float32", "bfloat16", "bfloat16x3", and for our own tiles "tiles", "tilesx3", "plain", "plainx3"), or
// else by the CPU and by torch's switches as they are now. Our own are taken where LNRNN_AMX_TILES=1.
Products products_for(std::optional<at::ScalarType> storage, std::optional<std::string_view> narrow);

template <typename T>
class WeightGradient;

// A matrix that rows are multiplied by again and again. It is arranged for that in panels of a few
// vectors, row after row, the last one as many vectors wide as it needs; a few uses would not pay for
// it and leave the work to BLAS.
template <typename T>
class Weight {
 public:
  Weight() = default;

  Weight(Matrix<T> b, int64_t uses, Products products);

  // to = a B + from, for `rows` rows of each, a's and to's lying close together. Of some columns only, if
  // they are asked for; as a whole where it has one part. Where they are rounded, the rows of a are handed
  // on to `taker`, whose rows `at` and on are the same.
  void multiply(
      int64_t rows, const T* a, Rows<const T> from, T* to, Columns of = {},
      const WeightGradient<T>* taker = nullptr, int64_t at = 0) const;

  // How many parts the columns can be computed in.
  int64_t parts() const;

  int64_t height() const { return inner_; }
  int64_t width() const { return width_; }

  bool arranged() const { return memory_.defined() || rounds(); }
  bool rounds() const { return narrow_ != nullptr; }

 private:
  void pack(int64_t n, T* panel) const;

  Matrix<T> plain_{nullptr, 0, 0};
  int64_t inner_ = 0, width_ = 0;
  Tensor memory_;
  std::shared_ptr<const Bfloat16Weight> narrow_;
};

// The gradient of a weight, the sum of d' a over chunks of rows.
template <typename T>
class WeightGradient {
 public:
  // To a matrix (height, width) of zeros, or null where nobody wants it; chunks have `most` rows. `hands`
  // multiplies all of them, if it is not null, and hands them on.
  WeightGradient(
      T* to, int64_t height, int64_t width, int64_t most, Products products,
      const Weight<T>* hands = nullptr);

  bool wanted() const { return to_ != nullptr; }

  void add(int64_t rows, const T* d, const T* a) const;

 private:
  T* to_;
  int64_t height_, width_;
  Products products_;
  Tensor rounded_;                             // oneDNN's
  std::shared_ptr<const TileGradient> tiles_;  // our own
  bool handed_ = false;

  friend class Weight<T>;
};

}  // namespace lnrnn
