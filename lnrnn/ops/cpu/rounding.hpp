// Numbers of float32 as one of bfloat16, or as the sum of two.
#pragma once

#include <ATen/Parallel.h>
#include <c10/util/BFloat16.h>

#include <algorithm>

#include "product.hpp"
#include "vectors.hpp"

namespace lnrnn {

// From so many entries on each side of a matrix on: tiles hold 16 by 32, and smaller ones are mostly
// zeros.
constexpr int64_t kWorthTiles = 16;

inline int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// Numbers rounded to bfloat16 and, where they are taken in two parts, what that left of them, rounded.
template <typename Number>
struct Parts {
  Number *high, *low;

  Parts at(int64_t i) const { return {high + i, low + i}; }
};

// Calls body(part of a, part of b) for the products that stand for one of float32.
template <typename Number, class Body>
inline void each_product(Parts<Number> a, Parts<Number> b, Products products, Body body) {
  body(a.high, b.high);
  if (products.narrow == 1) return;
  body(a.high, b.low);
  body(a.low, b.high);
}

// Rounds a row. What is infinite or not a number has no second part; of
// three products, a number that only rounding makes infinite, from 3.39e38 on, becomes NaN.
inline void round_row(const float* from, Parts<at::BFloat16> to, int64_t count, Products products) {
  at::vec::convert(from, to.high, count);
  if (products.parts() == 1) return;
  constexpr int64_t chunk = 64;
  float rest[chunk];
  for (int64_t i = 0; i < count; i += chunk) {
    const int64_t n = std::min(chunk, count - i);
    at::vec::convert(to.high + i, rest, n);
    sweep<float>(n, [&](int64_t j, auto lanes) {
      const Vec<float> left = lanes.load(from + i + j) - lanes.load(rest + j);
      lanes.store(rest + j, Vec<float>::blendv(Vec<float>(0.f), left, left == left));
    });
    at::vec::convert(rest, to.low + i, n);
  }
}

// Rounds rows that lie close together, all threads taking part.
inline void round_rows(
    const float* from, Parts<at::BFloat16> to, int64_t count, Products products) {
  at::parallel_for(0, count, 1 << 15, [&](int64_t low, int64_t high) {
    round_row(from + low, to.at(low), high - low, products);
  });
}

}  // namespace lnrnn
