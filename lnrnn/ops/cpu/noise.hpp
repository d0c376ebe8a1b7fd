// What is random inside the steps, by masks that were drawn before (lnrnn.ops.noise): zoneout of a
// state, dropout of the candidate and of the hidden state that W reads. Loops here are plain, for the
// compiler to vectorize.
//
// Dimensions: N rows of all steps, B sequences, W values of a row, R recurrent features.
#pragma once

#include <cstring>
#include <type_traits>

#include "inputs.hpp"

namespace lnrnn {

// Zoneout of one state, hidden or cell.
template <typename T>
struct Zoneout {
  const bool* fresh;  // (N, W), whether a unit is new; null for the mean over all masks
  T probability;      // of a unit that stays as it was
  int64_t width;

  bool acts() const { return fresh != nullptr || probability != T(0); }

  // Forward: from what rows of a step found, `old`, and what they made of it, in `state`, to what they
  // leave there. `row` is the first of `count`.
  void mix(int64_t row, int64_t count, const T* old, T* state) const {
    const T p = probability;
    if (fresh == nullptr) {
      for (int64_t i = 0; i < count * width; i++) state[i] = p * old[i] + (T(1) - p) * state[i];
      return;
    }
    const bool* const mask = fresh + row * width;
    for (int64_t i = 0; i < count * width; i++) state[i] = mask[i] ? state[i] : old[i];
  }

  // Backward: from the gradient of what rows leave, in `d`, to that of what they make, there, and of
  // what they found, `d_old`.
  void split(int64_t row, int64_t count, T* d, T* d_old) const {
    const T p = probability;
    const bool* const mask = fresh == nullptr ? nullptr : fresh + row * width;
    for (int64_t i = 0; mask == nullptr && i < count * width; i++) {
      d_old[i] = p * d[i];
      d[i] = (T(1) - p) * d[i];
    }
    for (int64_t i = 0; mask != nullptr && i < count * width; i++) {
      d_old[i] = mask[i] ? T(0) : d[i];
      d[i] = mask[i] ? d[i] : T(0);
    }
  }
};

// Dropout of values whose mask has as many rows as they do; W values a row.
template <typename T>
struct Dropout {
  const bool* kept;  // null where nothing is dropped
  T probability;
  int64_t width;

  bool acts() const { return kept != nullptr; }

  // What values are multiplied by, for a row.
  void scales(int64_t row, T* to) const {
    const bool* const mask = kept + row * width;
    for (int64_t i = 0; i < width; i++) to[i] = mask[i] ? T(1) / (T(1) - probability) : T(0);
  }

  // Rows from the `row`-th on, with units dropped; `to` may be `from`.
  void apply(int64_t row, int64_t count, const T* from, T* to) const {
    const bool* const mask = kept + row * width;
    const T rest = T(1) - probability;
    for (int64_t i = 0; i < count * width; i++) to[i] = from[i] * T(mask[i]) / rest;
  }
};

// What is random about the hidden state, and memory for it: (B, R) each.
template <typename T>
struct HiddenNoise {
  Zoneout<T> zoneout;
  Dropout<T> seen;     // its mask is (B, R), the same at all steps
  T *old, *read;       // what steps found; what W reads. Backward, their gradients
  const T* zeros;

  bool any() const { return zoneout.acts() || seen.acts(); }
};

// Calls body(std::true_type()) or body(std::false_type()): steps are compiled with and without what
// only some calls want.
template <class Body>
void either(bool which, Body body) {
  if (which) body(std::true_type());
  else body(std::false_type());
}

// The function of the arguments that are left once the first is given.
template <class First, class Function>
auto bound(First first, const Function& function) {
  return [first, &function](auto... rest) { function(first, rest...); };
}

// The mask of a schema, to read and to keep alive.
struct MaskTensor {
  Tensor mask;  // undefined where there is none
  double probability;

  MaskTensor(const Maybe& given, double probability_) : probability(probability_) {
    if (given) mask = given->contiguous();
  }

  const bool* data() const { return mask.defined() ? mask.const_data_ptr<bool>() : nullptr; }

  template <typename T>
  Zoneout<T> zoneout(int64_t width) const {
    return {data(), static_cast<T>(probability), width};
  }

  template <typename T>
  Dropout<T> dropout(int64_t width) const {
    return {data(), static_cast<T>(probability), width};
  }
};

struct HiddenNoiseTensors {
  MaskTensor fresh, seen;
  int64_t batch, width;
  Tensor memory;

  HiddenNoiseTensors(
      const Maybe& fresh_h, double zoneout, const Maybe& seen_h, double dropout, const Tensor& h_0)
      : fresh(fresh_h, zoneout), seen(seen_h, dropout), batch(h_0.size(0)), width(h_0.size(1)) {
    const bool any = fresh_h || zoneout != 0 || seen_h;
    // Empty where nothing is random: filling even nothing takes microseconds.
    memory = any ? zeros({3, batch, width}, h_0.scalar_type()) : empty({0}, h_0.scalar_type());
  }

  template <typename T>
  HiddenNoise<T> with() const {
    T* const room = memory.data_ptr<T>();
    const int64_t next = memory.numel() / 3;
    return {fresh.zoneout<T>(width), seen.dropout<T>(width), room, room + next, room + 2 * next};
  }
};

}  // namespace lnrnn
