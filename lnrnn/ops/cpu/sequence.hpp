// Whole sequences, padded or packed, one direction: which rows are live at which step, who computes
// them, and the matrix products. The three cells add what happens to a row. What runs the steps is
// compiled once and not for each cell (sequence.cpp).
//
// Sequences are split over threads for all steps of a call (forward) or of a chunk of steps
// (backward), so that threads meet once and not at every step. A thread keeps to its own sequences
// and to its own row of sums: results repeat bit for bit at a given number of threads.
//
// Dimensions: T steps, B sequences, N rows of all steps together, R recurrent features, G gate
// entries. Everything is row-major and contiguous.
#pragma once

#include <c10/util/FunctionRef.h>

#include <optional>
#include <vector>

#include "inputs.hpp"
#include "noise.hpp"
#include "resets.hpp"
#include "team.hpp"

namespace lnrnn {

// Rows of x that are projected at once. A product of few rows takes the time that its weight takes to be
// read; what is made of more than these would leave the cache before its step comes.
constexpr int64_t kAheadRows = 64;

// Steps whose x is projected at once: the step after them, where the rows of all sequences begin, and how
// many rows are projected, which are some of one step's where threads share the sequences.
struct Ahead {
  int64_t end, base, rows;
};

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

  // How many rows of x are projected at once, at most.
  int64_t most_ahead() const { return std::max(std::min(kAheadRows, total), batch); }

  // The steps from the k-th to be computed on whose x is projected at once.
  Ahead ahead(int64_t k) const {
    Ahead some{k + 1, first[at(k)], rows[at(k)]};
    while (some.end < count && some.rows + rows[at(some.end)] <= kAheadRows) {
      const int64_t t = at(some.end++);
      some.base = std::min(some.base, first[t]);
      some.rows += rows[t];
    }
    return some;
  }

  // The row that put out a sequence's state before step t, or -1 where that is its initial state.
  int64_t before(int64_t t, int64_t sequence) const {
    const int64_t last = reverse ? t + 1 : t - 1;
    if (last < 0 || last == count || sequence >= rows[last]) return -1;
    return first[last] + sequence;
  }
};

// Rows that steps compute, in T, and that the backward wants again. Memory is for all of them, (N, width),
// which stay there. Or it is for those of a few steps, whether nothing is kept or they are kept
// rounded to bfloat16: where hidden states are, since the reference rounds them at this place too.
class Kept {
 public:
  Kept(const Steps& steps, bool used, int64_t width, const Tensor& like, bool keep, bool narrow)
      : width_(width), keep_(keep) {
    const int64_t all = used && keep ? steps.total : 0, some = used ? steps.most_ahead() : 0;
    rows_ = for_all_rows({keep && !narrow ? all : some, width}, like);
    if (keep && narrow) stored_ = for_all_rows({all, width}, at::kBFloat16);
  }

  template <typename T>
  T* data() const {
    return rows_.data_ptr<T>();
  }

  // Where the row stands that is the i-th of all; memory for a few steps' begins with the base-th.
  int64_t place(int64_t i, int64_t base) const { return keep_ && !stored_.defined() ? i : i - base; }

  // Keeps `count` rows from the i-th on.
  template <typename T>
  void store(int64_t i, int64_t base, int64_t count) const {
    if (!stored_.defined() || stored_.numel() == 0) return;
    at::BFloat16* const to = stored_.data_ptr<at::BFloat16>() + i * width_;
    at::vec::convert(data<T>() + place(i, base) * width_, to, count * width_);
  }

  // What the backward gets.
  Tensor result() const {
    if (!keep_) return rows_.new_empty({0, width_});
    return stored_.defined() ? stored_ : rows_;
  }

 private:
  int64_t width_;
  bool keep_;
  Tensor rows_, stored_;
};

// Rounds to a narrower type, where the numbers are to be those that it can hold.
template <typename T>
void round_to(at::ScalarType storage, T* values, int64_t count);

// What a forward run reads and writes besides the cell's own.
template <typename T>
struct Run {
  // step(t, low, high, v, z) computes the hidden states of the live sequences [low, high) from v, their
  // rows of `side`, and z, their rows from the input side, null where joint.
  using Step = c10::function_ref<void(int64_t, int64_t, int64_t, const T*, const T*)>;

  const Weight<T>& weight;      // R to G
  int64_t gates, features;      // G, R
  Inputs<T> inputs;
  T *state, *output;            // (B, R), initial hidden states, final ones in the end; (N, R)
  const Kept &side, &projected; // W h or, joint, the sum with the input; z where it is apart
  Resets<T> resets;             // of the hidden states
  HiddenNoise<T> noise;         // of them too
  std::optional<at::ScalarType> storage;  // what hidden states are rounded to, if not T

  // What W reads of the hidden states of `rows` sequences.
  const T* read(int64_t sequence, int64_t rows) const {
    const T* const h = state + sequence * features;
    if (!noise.seen.acts()) return h;
    T* const to = noise.read + sequence * features;
    noise.seen.apply(sequence, rows, h, to);
    if (storage) round_to(*storage, to, rows * features);
    return to;
  }
};

// Runs all steps forward.
template <typename T>
void run_forward(const Steps& steps, const Run<T>& run, typename Run<T>::Step step);

// What a backward run reads and writes besides the cell's own. Gradients that nobody wants are null.
template <typename T>
struct Backward {
  // step(shard's sums, t, low, high, v, z, d_v, d_z, index of the first row in its chunk) goes from the
  // gradient of the hidden state to that of v and of z, which are one where the norm is joint, for the
  // sequences [low, high); z is null there.
  using Step = c10::function_ref<void(
      T*, int64_t, int64_t, int64_t, const T*, const T*, T*, T*, int64_t)>;

  const Weight<T>& weight;      // G to R
  int64_t gates, features;      // G, R
  const T *h_0, *output;        // (B, R), (N, R)
  const T* d_output;            // (N, R)
  Resets<T> resets;             // of the hidden states
  HiddenNoise<T> noise;         // of them too
  std::optional<at::ScalarType> storage;  // what the forward rounded them to, if not T
  const Tensor &side, &projected;  // as the forward kept them
  T* d_state;                   // gradient of the final hidden states, becoming the initial ones'
  bool direct;                  // whether the cell itself passes part of d_state on
  T* d_weight;                  // (G, R), zeros
  Inputs<T> inputs;             // with a weight from G to I
  T* d_x;                       // as x
  T* d_weight_ih;               // (G, I), zeros
  Products products;            // of the weights' gradients
  T* sums;                      // (width), zeros: gradients of gains, shifts and biases
  int64_t width;

  // A sequence's hidden state before step t.
  const T* before(const Steps& steps, int64_t t, int64_t sequence) const {
    const int64_t row = steps.before(t, sequence);
    if (row < 0) return h_0 + sequence * features;
    return resets.at(row) ? resets.state + sequence * features : output + row * features;
  }

  // What W read of it at step t.
  void read(const Steps& steps, int64_t t, int64_t sequence, T* out) const {
    const T* const h = before(steps, t, sequence);
    if (!noise.seen.acts()) {
      std::memcpy(out, h, features * sizeof(T));
      return;
    }
    noise.seen.apply(sequence, 1, h, out);
    if (storage) round_to(*storage, out, features);
  }

  // What a cell adds to d_state, from a row on: the output's gradient, unless zoneout has added it.
  const T* above(int64_t row) const {
    return noise.zoneout.acts() ? noise.zeros : d_output + row * features;
  }

  // Before the step of `rows` rows, of which the first is a sequence's: leaves d_state with the gradient
  // of what the step makes.
  void split(int64_t row, int64_t sequence, int64_t rows) const {
    T* const d = d_state + sequence * features;
    const T* const more = d_output + row * features;
    for (int64_t i = 0; i < rows * features; i++) d[i] += more[i];
    noise.zoneout.split(row, rows, d, noise.old + sequence * features);
  }

  // After it: d_state becomes the gradient of what the step found, from that of what W read.
  void merge(int64_t sequence, int64_t rows) const {
    T *const d = d_state + sequence * features, *const d_read = noise.read + sequence * features;
    const T* const d_old = noise.old + sequence * features;
    if (noise.seen.acts()) noise.seen.apply(sequence, rows, d_read, d_read);
    for (int64_t i = 0; i < rows * features; i++) d[i] = direct ? d[i] + d_read[i] : d_read[i];
    for (int64_t i = 0; noise.zoneout.acts() && i < rows * features; i++) d[i] += d_old[i];
  }
};

// Rows of a chunk of steps: enough for the weight gradient's product to be efficient, few enough for
// what it reads to be still in the cache.
constexpr int64_t kChunkRows = 256;

inline int64_t chunk_rows(const Steps& steps) {
  return std::max(std::min(kChunkRows, steps.total), steps.batch);
}

// Runs all steps backward; chunk(rows) follows each chunk of steps.
template <typename T>
void run_backward(
    const Steps& steps, const Backward<T>& to, typename Backward<T>::Step step,
    c10::function_ref<void(int64_t)> chunk);

// The shape of one row of `like` for every row of x, padded or packed.
inline std::vector<int64_t> rows_of(const Tensor& x, int64_t width) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = width;
  return shape;
}

}  // namespace lnrnn
