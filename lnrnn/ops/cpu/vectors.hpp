// Vectors of any width over rows of any length, and the gates' functions on them.
#pragma once

#include <ATen/cpu/vec/vec.h>
// After vec.h, which it does not compile before except for AVX-512.
#include <ATen/cpu/vec/functional_base.h>

#include <cstdint>
#include <type_traits>

namespace lnrnn {

template <typename T>
using Vec = at::vec::Vectorized<T>;

// A whole vector of a row.
template <typename T>
struct Whole {
  Vec<T> load(const T* from) const { return Vec<T>::loadu(from); }
  void store(T* to, Vec<T> v) const { v.store(to); }
  Vec<T> or_zero(Vec<T> v) const { return v; }
};

// The last, shorter vector of a row; memory past the row is never touched.
template <typename T>
struct Part {
  int64_t count;
  Vec<T> load(const T* from) const { return Vec<T>::loadu(from, count); }
  void store(T* to, Vec<T> v) const { v.store(to, static_cast<int>(count)); }
  // Sums must not see what arithmetic leaves in the lanes past the row.
  Vec<T> or_zero(Vec<T> v) const { return Vec<T>::set(Vec<T>(T(0)), v, count); }
};

// Calls body(i, lanes) for every vector of a row of n entries, i being its first entry.
template <typename T, class Body>
inline void sweep(int64_t n, Body body) {
  constexpr int64_t width = Vec<T>::size();
  int64_t i = 0;
  for (; i + width <= n; i += width) body(i, Whole<T>{});
  if (i < n) body(i, Part<T>{n - i});
}

template <typename T>
inline T sum(Vec<T> v) {
  return at::vec::vec_reduce_all<T>([](Vec<T>& a, Vec<T>& b) { return a + b; }, v);
}

// The sum over a row of value(i, lanes), in four chains: one would wait for each addition.
template <typename T, class Value>
inline T sum_over(int64_t n, Value value) {
  constexpr int64_t width = Vec<T>::size();
  Vec<T> a(T(0)), b(T(0)), c(T(0)), d(T(0));
  int64_t i = 0;
  for (; i + 4 * width <= n; i += 4 * width) {
    a = a + value(i, Whole<T>{});
    b = b + value(i + width, Whole<T>{});
    c = c + value(i + 2 * width, Whole<T>{});
    d = d + value(i + 3 * width, Whole<T>{});
  }
  for (; i + width <= n; i += width) a = a + value(i, Whole<T>{});
  if (i < n) {
    const Part<T> part{n - i};
    b = b + part.or_zero(value(i, part));
  }
  return sum<T>((a + b) + (c + d));
}

template <typename T>
inline Vec<T> sigmoid(Vec<T> x) {
  const Vec<T> one(T(1));
  return one / (one + x.neg().exp());
}

// In float32, the polynomial near zero is that of Cephes' tanhf: 1 - 2 / (exp(2x) + 1) alone would
// lose every digit of a small x. Both agree with tanh to 2 units in the last place.
template <typename T>
inline Vec<T> tanh(Vec<T> x) {
  if constexpr (std::is_same_v<T, float>) {
    using at::vec::fmadd;
    const Vec<T> one(1.f), two(2.f), square = x * x;
    Vec<T> p = fmadd(Vec<T>(-5.70498872745e-3f), square, Vec<T>(2.06390887954e-2f));
    p = fmadd(p, square, Vec<T>(-5.37397155531e-2f));
    p = fmadd(p, square, Vec<T>(1.33314422036e-1f));
    p = fmadd(p, square, Vec<T>(-3.33332819422e-1f));
    const Vec<T> near = fmadd(p * square, x, x);
    const Vec<T> far = one - two / ((x + x).exp() + one);
    return Vec<T>::blendv(far, near, x.abs() < Vec<T>(0.625f));
  } else {
    return x.tanh();
  }
}

}  // namespace lnrnn
