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

// exp(x) - 1 in two parts, power - 1 and power * rest, for |x| <= 87: power = 2^n with n whole, and
// rest = 2^f - 1, a polynomial for |f| <= 1/2 that keeps its relative accuracy near zero.
struct Exponential {
  Vec<float> power, rest;

  explicit Exponential(Vec<float> x) {
    using at::vec::fmadd;
    const Vec<float> high(1.44269502f), low(1.92596303e-8f);  // of log2(e)
    const Vec<float> round(12582912.f);  // 1.5 * 2^23: what is added to it loses its fraction
    const Vec<float> shifted = fmadd(x, high, round), n = shifted - round;
    const Vec<float> f = fmadd(x, low, fmadd(x, high, n.neg()));
    // n stands in the last bits of `shifted`; from there it goes to the exponent of 1.
    using at::vec::cast;
    const Vec<int32_t> exponent = cast<int32_t, float>(shifted) << Vec<int32_t>(23);
    power = cast<float, int32_t>(exponent + Vec<int32_t>(0x3f800000));
    rest = fmadd(f, Vec<float>(1.54035122e-4f), Vec<float>(1.33907353e-3f));
    rest = fmadd(f, rest, Vec<float>(9.61823761e-3f));
    rest = fmadd(f, rest, Vec<float>(5.55035733e-2f));
    rest = fmadd(f, rest, Vec<float>(2.40226492e-1f));
    rest = fmadd(f, rest, Vec<float>(6.93147182e-1f)) * f;
  }
};

// 1 / d for finite d, to 1 unit in the last place: AVX-512 has a division that takes as long as the
// whole of a sigmoid's other steps, and a guess to 14 bits that one step of Newton's completes.
inline Vec<float> reciprocal(Vec<float> d) {
#ifdef CPU_CAPABILITY_AVX512
  const Vec<float> guess = _mm512_rcp14_ps(d);
  return at::vec::fmadd(guess, at::vec::fnmadd(d, guess, Vec<float>(1.f)), guess);
#else
  return Vec<float>(1.f) / d;
#endif
}

// Both are good to some 3 units in the last place; NaN stays NaN, since clamp keeps it.
template <typename T>
inline Vec<T> sigmoid(Vec<T> x) {
  const Vec<T> one(T(1));
  if constexpr (std::is_same_v<T, float>) {
    const Exponential e(at::vec::clamp(x.neg(), Vec<T>(-87.f), Vec<T>(87.f)));
    return reciprocal(at::vec::fmadd(e.power, e.rest, e.power) + one);
  } else {
    return one / (one + x.neg().exp());
  }
}

template <typename T>
inline Vec<T> tanh(Vec<T> x) {
  if constexpr (std::is_same_v<T, float>) {  // expm1(2x) / (expm1(2x) + 2)
    const Exponential e(at::vec::clamp(x + x, Vec<T>(-40.f), Vec<T>(40.f)));
    const Vec<T> grown = at::vec::fmadd(e.power, e.rest, e.power - Vec<T>(1.f));
    return grown * reciprocal(grown + Vec<T>(2.f));
  } else {
    return x.tanh();
  }
}

}  // namespace lnrnn
