// One norm over one row, forward and backward: N(v) = (v - mean) / sqrt(variance + eps), or without
// the mean for kind "rms". Statistics are taken in two passes: a row of values that differ little
// keeps its variance.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "vectors.hpp"

namespace lnrnn {

struct Norm {
  bool centered;  // whether the mean is subtracted: kind "layer"
  double eps;
};

template <typename T>
struct Moments {
  T mean, scale;  // N(v) = (v - mean) * scale
};

template <typename T>
inline Moments<T> moments(const T* v, int64_t n, Norm norm) {
  T mean(0);
  if (norm.centered) {
    mean = sum_over<T>(n, [&](int64_t i, auto lanes) { return lanes.load(v + i); }) / T(n);
  }
  const Vec<T> center(mean);
  const T squares = sum_over<T>(n, [&](int64_t i, auto lanes) {
    const Vec<T> d = lanes.load(v + i) - center;
    return d * d;
  });
  return {mean, T(1) / std::sqrt(squares / T(n) + T(norm.eps))};
}

template <typename T>
inline Vec<T> normalized(Vec<T> v, Moments<T> m) {
  return (v - Vec<T>(m.mean)) * Vec<T>(m.scale);
}

// Where gradients add up over rows: of a norm's gain and shift, and of what was added before it. What
// nobody wants is null.
template <typename T>
struct Sums {
  T *gain, *shift, *before;

  Sums at(int64_t i) const {
    return {gain + i, shift ? shift + i : nullptr, before ? before + i : nullptr};
  }
};

// Passes the gradient of u = gain * N(v) + shift back to v. d_v may be d_u.
template <typename T>
inline void norm_backward(
    const T* d_u, T* d_v, const T* v, Moments<T> m, int64_t n, Norm norm, const T* gain,
    Sums<T> sums) {
  Vec<T> total(T(0)), along(T(0));
  sweep<T>(n, [&](int64_t i, auto lanes) {
    const Vec<T> d = lanes.load(d_u + i), hat = normalized(lanes.load(v + i), m);
    lanes.store(sums.gain + i, at::vec::fmadd(d, hat, lanes.load(sums.gain + i)));
    if (sums.shift) lanes.store(sums.shift + i, lanes.load(sums.shift + i) + d);
    const Vec<T> d_hat = d * lanes.load(gain + i);  // zero past the row, as what is loaded is
    total = total + d_hat;
    along = at::vec::fmadd(d_hat, hat, along);
  });
  // d_v = scale * (d_hat - mean(d_hat) - hat * mean(d_hat * hat)), with hat = scale * (v - mean)
  const T shift = norm.centered ? sum<T>(total) / T(n) : T(0), slope = sum<T>(along) / T(n);
  const Vec<T> center(m.mean), scale(m.scale);
  const Vec<T> level(-m.scale * shift), tilt(-m.scale * m.scale * slope);
  sweep<T>(n, [&](int64_t i, auto lanes) {
    using at::vec::fmadd;
    const Vec<T> d_hat = lanes.load(d_u + i) * lanes.load(gain + i);
    const Vec<T> d = fmadd(d_hat, scale, fmadd(lanes.load(v + i) - center, tilt, level));
    lanes.store(d_v + i, d);
    if (sums.before) lanes.store(sums.before + i, lanes.load(sums.before + i) + d);
  });
}

// The norms over the gates of a row, (gates, H). Each covers `spans[s]` neighboring gates; moments
// are kept for each gate, whichever norm it belongs to. Where there are none, moments are those that
// change nothing, and the gain is one.
struct GateNorms {
  Norm norm;
  std::vector<int64_t> spans;
  int64_t hidden;
  bool act = true;

  int64_t gates() const { return std::accumulate(spans.begin(), spans.end(), int64_t{0}); }

  template <typename T>
  __attribute__((always_inline)) void measure(const T* v, Moments<T>* out) const {
    if (!act) {
      std::fill(out, out + gates(), Moments<T>{T(0), T(1)});
      return;
    }
    for (int64_t count : spans) {
      const Moments<T> m = moments(v, count * hidden, norm);
      for (int64_t q = 0; q < count; q++) *out++ = m;
      v += count * hidden;
    }
  }

  template <typename T>
  void backward(
      const T* d_u, T* d_v, const T* v, const Moments<T>* m, const T* gain, Sums<T> sums) const {
    if (!act) {
      sweep<T>(gates() * hidden, [&](int64_t i, auto lanes) {
        const Vec<T> d = lanes.load(d_u + i);
        lanes.store(d_v + i, d);
        if (sums.shift) lanes.store(sums.shift + i, lanes.load(sums.shift + i) + d);
        if (sums.before) lanes.store(sums.before + i, lanes.load(sums.before + i) + d);
      });
      return;
    }
    int64_t q = 0;
    for (int64_t count : spans) {
      const int64_t at = q * hidden, n = count * hidden;
      norm_backward(d_u + at, d_v + at, v + at, m[q], n, norm, gain + at, sums.at(at));
      q += count;
    }
  }
};

// u = gain * N(v) + bias at entry z of gate q.
template <typename T, class Lanes>
inline Vec<T> affine(
    Lanes lanes, const T* v, const Moments<T>* m, int64_t q, int64_t z, const T* gain,
    const T* bias) {
  return at::vec::fmadd(
      normalized(lanes.load(v + z), m[q]), lanes.load(gain + z), lanes.load(bias + z));
}

}  // namespace lnrnn
