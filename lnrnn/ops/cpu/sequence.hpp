// Whole sequences, padded or packed, one direction: which rows are live at which step, who computes
// them, and the matrix products. The three cells add what happens to a row.
//
// Sequences are split over threads for all steps of a call (forward) or of a chunk of steps
// (backward), so that threads meet once and not at every step. A thread keeps to its own sequences
// and to its own row of sums: results repeat bit for bit at a given number of threads.
//
// Dimensions: T steps, B sequences, N rows of all steps together, R recurrent features, G gate
// entries. Everything is row-major and contiguous.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

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
using Maybe = std::optional<Tensor>;

// A matrix in memory, read as it lies or transposed.
template <typename T>
struct Matrix {
  const T* data;
  int64_t rows, columns;  // as it lies
  bool transposed = false;
};

template <typename T>
inline Matrix<T> transposed(const T* data, int64_t rows, int64_t columns) {
  return {data, rows, columns, true};
}

// out = a b + keep * out, with out (rows, columns) and keep 0 or 1.
template <typename T>
inline void multiply(T* out, Matrix<T> a, Matrix<T> b, bool keep = false) {
  const int64_t rows = a.transposed ? a.columns : a.rows, inner = a.transposed ? a.rows : a.columns;
  const int64_t columns = b.transposed ? b.rows : b.columns;
  if (rows == 0) return;
  const auto blas = [] {
    if constexpr (std::is_same_v<T, float>) return sgemm_;
    else return dgemm_;
  }();
  if (blas != nullptr) {  // column-major, so out' = b' a'
    const int m = static_cast<int>(columns), n = static_cast<int>(rows);
    const int k = static_cast<int>(inner);
    const int a_stride = static_cast<int>(a.columns), b_stride = static_cast<int>(b.columns);
    const T one(1), beta(keep ? 1 : 0);
    blas(b.transposed ? "T" : "N", a.transposed ? "T" : "N", &m, &n, &k, &one, b.data, &b_stride,
         a.data, &a_stride, &beta, out, &m);
    return;
  }
  const auto view = [](const T* data, int64_t r, int64_t c) {
    return at::from_blob(const_cast<T*>(data), {r, c}, c10::CppTypeToScalarType<T>::value);
  };
  Tensor result = view(out, rows, columns), left = view(a.data, a.rows, a.columns);
  Tensor right = view(b.data, b.rows, b.columns);
  left = a.transposed ? left.t() : left;
  right = b.transposed ? right.t() : right;
  if (keep) result.add_(left.mm(right));
  else at::mm_out(result, left, right);
}

// Multiplications from which on work is split over threads: some ten microseconds of one.
constexpr int64_t kShareFrom = 1 << 18;

// The live rows of each step, as they lie in memory: steps in order of time, sequences sorted by
// falling length.
struct Steps {
  std::vector<int64_t> rows, first;  // of each step: how many, and the first one's index
  int64_t count, batch, total;
  bool reverse;

  Steps(const Tensor& x, const Maybe& batch_sizes, bool backwards) : reverse(backwards) {
    if (batch_sizes) {
      const Tensor sizes = batch_sizes->contiguous();
      rows.assign(sizes.const_data_ptr<int64_t>(), sizes.const_data_ptr<int64_t>() + sizes.numel());
    } else {
      rows.assign(x.size(0), x.size(1));
    }
    count = static_cast<int64_t>(rows.size());
    batch = rows.front();
    total = 0;
    for (int64_t n : rows) {
      first.push_back(total);
      total += n;
    }
  }

  // The k-th step to be computed.
  int64_t at(int64_t k) const { return reverse ? count - 1 - k : k; }

  // Where a sequence's state before step t was put out, or null where that is its initial state.
  template <typename T>
  const T* before(const T* output, int64_t t, int64_t sequence, int64_t width) const {
    const int64_t last = reverse ? t + 1 : t - 1;
    if (last < 0 || last == count || sequence >= rows[last]) return nullptr;
    return output + (first[last] + sequence) * width;
  }

  // Calls body(shard, low, high) for shares of the sequences, [low, high), with about as many live
  // rows each in the steps [begin, end); a row costs `cost` multiplications. Small batches stay
  // whole, since a product of few rows takes as long as one of some more, and inside it BLAS may use
  // the threads; little work does, since waking a thread takes microseconds.
  template <class Body>
  void share(int64_t begin, int64_t end, int64_t cost, Body body) const {
    const int64_t widest = rows[begin], live = first[end - 1] + rows[end - 1] - first[begin];
    const bool little = live * cost < kShareFrom || at::in_parallel_region();
    const int64_t threads = little ? 1 : at::get_num_threads();
    const int64_t shards = std::clamp<int64_t>(widest / 8, 1, threads);
    if (shards == 1) return body(0, 0, widest);
    const std::vector<int64_t> bounds = split(begin, end, shards);
    at::parallel_for(0, shards, 1, [&](int64_t low, int64_t high) {
      for (int64_t s = low; s < high; s++) body(s, bounds[s], bounds[s + 1]);
    });
  }

 private:
  std::vector<int64_t> split(int64_t begin, int64_t end, int64_t shards) const {
    int64_t work = 0, done = 0, live = end;
    for (int64_t t = begin; t < end; t++) work += rows[t];
    std::vector<int64_t> bounds{0};
    for (int64_t b = 0; b < rows[begin]; b++) {
      while (live > begin && rows[live - 1] <= b) live--;
      done += live - begin;  // the steps that sequence b lives through
      while (done * shards >= work * static_cast<int64_t>(bounds.size())) bounds.push_back(b + 1);
    }
    bounds.back() = rows[begin];
    return bounds;
  }
};

// Runs all steps forward. `state`, (B, R), holds the initial hidden states and ends as the final
// ones. `side`, where every step's product W h goes, is (N, G) if it is kept, else (B, G).
// step(t, low, high, side of the first row) computes the live sequences [low, high).
template <typename T, class Step>
void run_forward(
    const Steps& steps, Matrix<T> weight, const T* state, T* side, bool kept, Step step) {
  const int64_t gates = weight.rows, features = weight.columns;
  steps.share(0, steps.count, gates * features, [&](int64_t, int64_t low, int64_t high) {
    for (int64_t k = 0; k < steps.count; k++) {
      const int64_t t = steps.at(k), live = std::min(high, steps.rows[t]);
      if (live <= low) continue;
      T* product = side + ((kept ? steps.first[t] : 0) + low) * gates;
      const Matrix<T> h{state + low * features, live - low, features};
      multiply(product, h, transposed(weight.data, gates, features));
      step(t, low, live, product);
    }
  });
}

// What a backward run reads and writes besides the cell's own.
template <typename T>
struct Backward {
  Matrix<T> weight;      // W_hh, (G, R)
  const T *h_0, *output; // (B, R), (N, R)
  T* d_state;            // gradient of the final hidden states, turned into that of the initial ones
  T* d_side;             // (N, G) for the gradient of W h, or null where nobody else needs it
  T* d_weight;           // (G, R), zeros
  T* sums;               // (width), zeros: gradients of gains and shifts
  int64_t width;
  bool direct;           // whether the cell itself passes part of d_state on
};

// Rows of a chunk of steps: enough for the weight gradient's product to be efficient, few enough for
// what it reads to be still in the cache.
constexpr int64_t kChunkRows = 256;

// Runs all steps backward. step(shard's sums, t, low, high, d_side of the first row, index of that
// row in its chunk) goes from the gradient of the hidden state to that of W h for the sequences
// [low, high); chunk(rows) follows each chunk of steps.
template <typename T, class Step, class Chunk>
void run_backward(const Steps& steps, const Backward<T>& to, Step step, Chunk chunk) {
  const int64_t gates = to.weight.rows, features = to.weight.columns;
  const int64_t most = std::max(std::min(kChunkRows, steps.total), steps.batch);
  const auto dtype = c10::CppTypeToScalarType<T>::value;
  const Tensor d_side = at::empty({to.d_side ? 0 : most, gates}, dtype);
  const Tensor earlier = at::empty({most, features}, dtype);  // hidden states before each row
  const Tensor shares = at::zeros({at::get_num_threads(), to.width}, dtype);
  T *buffer = d_side.data_ptr<T>(), *before = earlier.data_ptr<T>(), *sums = shares.data_ptr<T>();

  for (int64_t stop = steps.count; stop > 0;) {
    int64_t start = stop - 1, rows = steps.rows[steps.at(start)];
    while (start > 0 && rows + steps.rows[steps.at(start - 1)] <= most) {
      rows += steps.rows[steps.at(--start)];
    }
    const int64_t begin = steps.reverse ? steps.at(stop - 1) : start, base = steps.first[begin];
    T* const d_chunk = to.d_side ? to.d_side + base * gates : buffer;
    const int64_t end = begin + stop - start;
    steps.share(begin, end, gates * features, [&](int64_t shard, int64_t low, int64_t high) {
      for (int64_t k = stop - 1; k >= start; k--) {
        const int64_t t = steps.at(k), live = std::min(high, steps.rows[t]);
        if (live <= low) continue;
        const int64_t row = steps.first[t] - base + low;
        step(sums + shard * to.width, t, low, live, d_chunk + row * gates, row);
        multiply(
            to.d_state + low * features, {d_chunk + row * gates, live - low, gates}, to.weight,
            to.direct);
        for (int64_t b = low; b < live; b++) {
          const T* h = steps.before(to.output, t, b, features);
          std::memcpy(
              before + (row + b - low) * features, h ? h : to.h_0 + b * features,
              features * sizeof(T));
        }
      }
    });
    multiply(to.d_weight, transposed(d_chunk, rows, gates), {before, rows, features}, true);
    chunk(rows);
    for (int64_t i = 0; i < shares.numel(); i++) {  // chunk by chunk: short sums round less
      to.sums[i % to.width] += sums[i];
      sums[i] = 0;
    }
    stop = start;
  }
}

// The vector, or zeros where there is none.
inline Tensor or_zeros(const Maybe& vector, int64_t width, const Tensor& like) {
  return vector ? vector->contiguous() : at::zeros({width}, like.options());
}

// The shape of one row of `like` for every row of x, padded or packed.
inline std::vector<int64_t> rows_of(const Tensor& x, int64_t width) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = width;
  return shape;
}

}  // namespace lnrnn
