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

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <vector>

#include "inputs.hpp"
#include "noise.hpp"
#include "resets.hpp"
#include "team.hpp"

namespace lnrnn {

// Multiplications from which on work is split over threads: some ten microseconds of one.
constexpr int64_t kShareFrom = 1 << 18;

// Those from which on threads help with the products of few rows: of all steps of a call, or of a chunk of
// them backward, and of a step for each thread. Measured on two cores, where less gained nothing or lost.
constexpr int64_t kHelpFrom = 1 << 24, kHelpStepFrom = 1 << 15;

// Rows of x that are projected at once. A product of few rows takes the time that its weight takes to be
// read; what is made of more than these would leave the cache before its step comes.
constexpr int64_t kAheadRows = 64;

// Steps whose x is projected at once, as they are computed, and where their rows begin.
struct Ahead {
  int64_t begin, end, base, rows;
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
    Ahead some{k, k + 1, first[at(k)], rows[at(k)]};
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

  // Calls body(team, shard, low, high) for shares of the sequences, [low, high), with about as many live
  // rows each in the steps [begin, end); a row costs `cost` multiplications. Small batches stay
  // whole, since a product of few rows takes as long as one of some more: threads help with the
  // products of the steps, which have `parts`, where these are long enough. Little work has one thread,
  // since waking another takes microseconds.
  template <class Body>
  void share(int64_t begin, int64_t end, int64_t cost, int64_t parts, Body body) const {
    const int64_t widest = rows[begin], live = first[end - 1] + rows[end - 1] - first[begin];
    const bool little = live * cost < kShareFrom || at::in_parallel_region();
    const int64_t threads = little ? 1 : at::get_num_threads();
    const int64_t shards = std::clamp<int64_t>(widest / 8, 1, threads);
    if (shards == 1) {
      const int64_t work = live * cost, most = std::min({threads, Team::kMost, parts});
      const int64_t wanted = work < kHelpFrom ? 1 : work / (end - begin) / kHelpStepFrom;
      return Team::run(std::clamp<int64_t>(wanted, 1, most), [&](Team& team) {
        body(team, 0, 0, widest);
      });
    }
    const std::vector<int64_t> bounds = split(begin, end, shards);
    at::parallel_for(0, shards, 1, [&](int64_t low, int64_t high) {
      for (int64_t s = low; s < high; s++) {
        Team alone(1);
        body(alone, s, bounds[s], bounds[s + 1]);
      }
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

// The same rows backward: read where they are, or widened in memory of one step's.
template <typename T>
class Widened {
 public:
  Widened(const Tensor& rows, int64_t batch) : rows_(rows), width_(rows.size(1)) {
    if (rows.scalar_type() == at::kBFloat16) room_ = empty({batch, width_}, kType);
  }

  // `count` rows, the first of which is the i-th of all and a step's s-th.
  const T* read(int64_t i, int64_t s, int64_t count) const {
    if (!room_.defined()) return rows_.template const_data_ptr<T>() + i * width_;
    T* const to = room_.template data_ptr<T>() + s * width_;
    at::vec::convert(rows_.const_data_ptr<at::BFloat16>() + i * width_, to, count * width_);
    return to;
  }

 private:
  static constexpr auto kType = c10::CppTypeToScalarType<T>::value;
  Tensor rows_;
  int64_t width_;
  Tensor room_;
};

// Rounds to a narrower type, where the numbers are to be those that it can hold.
template <typename T>
void round_to(at::ScalarType storage, T* values, int64_t count) {
  AT_DISPATCH_REDUCED_FLOATING_TYPES(storage, "round_to", [&] {
    for (int64_t i = 0; i < count; i++) values[i] = static_cast<T>(static_cast<scalar_t>(values[i]));
  });
}

// What a forward run reads and writes besides the cell's own.
template <typename T>
struct Run {
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

// Runs all steps forward. step(t, low, high, v, z) computes the hidden states of the live sequences
// [low, high) from v, their rows of `side`, and z, their rows from the input side, null where joint.
template <typename T, class Step>
void run_forward(const Steps& steps, const Run<T>& run, Step step) {
  const int64_t gates = run.gates, features = run.features;
  const Inputs<T>& in = run.inputs;
  const bool projects = in.weight != nullptr;
  const int64_t cost = gates * (features + (projects ? in.features : 0));
  const auto body = [&](Team& team, int64_t, int64_t low, int64_t high) {
    const bool all = low == 0 && high == steps.batch;  // else rows of several steps do not lie together
    Ahead some{0, 0, 0, 0};
    for (int64_t k = 0; k < steps.count; k++) {
      const int64_t t = steps.at(k), live = std::min(high, steps.rows[t]), rows = live - low;
      if (rows <= 0) continue;
      const int64_t row = steps.first[t] + low;
      const bool ahead = k < some.end;  // whether x has been projected
      if (!ahead) some = all ? steps.ahead(k) : Ahead{k, k + 1, steps.first[t], rows};
      const int64_t place = run.side.place(row, some.base);
      const Rows<T> v{run.side.template data<T>() + place * gates, gates};
      T* const room = in.joint ? run.side.template data<T>() : in.projected;
      if (projects && !ahead) {
        const int64_t from = all ? some.base : row, count = all ? some.rows : rows;
        T* const to = room + run.side.place(from, some.base) * gates;
        team.split([&](Columns of) {
          in.weight->multiply(count, in.x + from * in.features, {in.bias, 0}, to, of);
        });
      }
      const Rows<const T> z{projects ? room + place * gates : in.x + row * gates, gates};
      const T* const found = run.read(low, rows);
      team.split([&](Columns of) {
        run.weight.multiply(rows, found, in.joint ? z : Rows<const T>{nullptr, 0}, v.data, of);
      });
      T *const h = run.state + low * features, *const old = run.noise.old + low * features;
      const bool zoned = run.noise.zoneout.acts();
      if (zoned) std::memcpy(old, h, rows * features * sizeof(T));
      step(t, low, live, v.data, in.joint ? nullptr : z.data);
      if (zoned) run.noise.zoneout.mix(row, rows, old, h);
      run.side.template store<T>(row, some.base, rows);
      run.projected.template store<T>(row, some.base, rows);
      if (run.storage) round_to(*run.storage, h, rows * features);
      std::memcpy(run.output + row * features, h, rows * features * sizeof(T));
      for (int64_t b = low; run.resets.any() && b < live; b++) {
        run.resets.replace(steps.first[t] + b, b, run.state);
      }
    }
  };
  steps.share(0, steps.count, cost, run.weight.parts(), body);
}

// What a backward run reads and writes besides the cell's own. Gradients that nobody wants are null.
template <typename T>
struct Backward {
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

// d_x = d W for the rows of a chunk, which are handed on to `taker`. Each thread takes some, or BLAS all.
template <typename T>
void multiply_rows(
    int64_t rows, const Weight<T>& weight, const T* d, T* d_x, const WeightGradient<T>& taker) {
  const int64_t gates = weight.height(), features = weight.width();
  const int64_t block = weight.arranged() ? kAheadRows : rows;
  const int64_t share = std::max<int64_t>(1, kShareFrom / (block * gates * features));
  at::parallel_for(0, (rows + block - 1) / block, share, [&](int64_t low, int64_t high) {
    for (int64_t i = low * block; i < std::min(high * block, rows); i += block) {
      const int64_t count = std::min(block, rows - i);
      weight.multiply(count, d + i * gates, {nullptr, 0}, d_x + i * features, {}, &taker, i);
    }
  });
}

// Rows of a chunk of steps: enough for the weight gradient's product to be efficient, few enough for
// what it reads to be still in the cache.
constexpr int64_t kChunkRows = 256;

inline int64_t chunk_rows(const Steps& steps) {
  return std::max(std::min(kChunkRows, steps.total), steps.batch);
}

// Runs all steps backward. step(shard's sums, t, low, high, v, z, d_v, d_z, index of the first row in
// its chunk) goes from the gradient of the hidden state to that of v and of z, which are one where
// the norm is joint, for the sequences [low, high); z is null there. chunk(rows) follows each chunk of
// steps.
template <typename T, class Step, class Chunk>
void run_backward(const Steps& steps, const Backward<T>& to, Step step, Chunk chunk) {
  const int64_t gates = to.gates, features = to.features, most = chunk_rows(steps);
  const Inputs<T>& in = to.inputs;
  const bool projects = in.weight != nullptr, of_x = projects && to.d_x;
  const auto dtype = c10::CppTypeToScalarType<T>::value;
  const Tensor d_sides = empty({in.joint && !projects ? 0 : most, gates}, dtype);
  const Tensor d_projected = empty({!in.joint && projects ? most : 0, gates}, dtype);
  const Tensor earlier = empty({to.d_weight ? most : 0, features}, dtype);
  const Tensor shares = zeros({at::get_num_threads(), to.width}, dtype);
  T *before = earlier.data_ptr<T>(), *sums = shares.data_ptr<T>();
  const WeightGradient<T> d_weight(to.d_weight, gates, features, most, to.products, &to.weight);
  const WeightGradient<T> d_weight_ih(
      to.d_weight_ih, gates, in.features, most, to.products, to.d_x ? in.weight : nullptr);
  const Widened<T> sides(to.side, steps.batch), inputs(to.projected, steps.batch);

  for (int64_t stop = steps.count; stop > 0;) {
    int64_t start = stop - 1, rows = steps.rows[steps.at(start)];
    while (start > 0 && rows + steps.rows[steps.at(start - 1)] <= most) {
      rows += steps.rows[steps.at(--start)];
    }
    const int64_t begin = steps.reverse ? steps.at(stop - 1) : start, base = steps.first[begin];
    T* const d_given = projects ? nullptr : to.d_x + base * gates;
    T* const d_z = projects ? d_projected.data_ptr<T>() : d_given;
    T* const d_v = in.joint && !projects ? d_given : d_sides.data_ptr<T>();
    T* const d_input = in.joint ? d_v : d_z;
    const int64_t end = begin + stop - start;
    const auto body = [&](Team& team, int64_t shard, int64_t low, int64_t high) {
      for (int64_t k = stop - 1; k >= start; k--) {
        const int64_t t = steps.at(k), live = std::min(high, steps.rows[t]), n = live - low;
        if (n <= 0) continue;
        const int64_t first = steps.first[t] + low, row = first - base, at = row * gates;
        const T* v = sides.read(first, low, n);
        const T* z = in.joint   ? nullptr
                     : projects ? inputs.read(first, low, n)
                                : in.x + first * gates;
        for (int64_t b = low; to.resets.any() && b < live; b++) {
          to.resets.take_back(steps.first[t] + b, b, to.d_state);
        }
        if (to.noise.zoneout.acts()) to.split(first, low, n);
        step(sums + shard * to.width, t, low, live, v, z, d_v + at, d_input + at, row);
        T* const d_h = to.d_state + low * features;
        T* const d_read = to.noise.any() ? to.noise.read + low * features : d_h;
        const T* const more = to.direct && !to.noise.any() ? d_h : nullptr;
        team.split([&](Columns of) {
          to.weight.multiply(n, d_v + at, {more, features}, d_read, of, &d_weight, row);
        });
        if (to.noise.any()) to.merge(low, n);
        for (int64_t b = low; to.d_weight && b < live; b++) {
          to.read(steps, t, b, before + (row + b - low) * features);
        }
      }
    };
    steps.share(begin, end, gates * features, to.weight.parts(), body);
    if (of_x) {
      multiply_rows(rows, *in.weight, d_input, to.d_x + base * in.features, d_weight_ih);
    }
    d_weight.add(rows, d_v, before);
    d_weight_ih.add(rows, d_input, in.x + base * in.features);
    chunk(rows);
    for (int64_t i = 0; i < shares.numel(); i++) {  // chunk by chunk: short sums round less
      to.sums[i % to.width] += sums[i];
      sums[i] = 0;
    }
    stop = start;
  }
}

// The shape of one row of `like` for every row of x, padded or packed.
inline std::vector<int64_t> rows_of(const Tensor& x, int64_t width) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = width;
  return shape;
}

}  // namespace lnrnn
