// The runs over steps of sequence.hpp. They are compiled once and not for each cell, whose step they call
// by a pointer: that is nothing beside what a step computes.
#include "sequence.hpp"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>

#include "team.hpp"

namespace lnrnn {
namespace {

// Multiplications from which on work is split over threads: some ten microseconds of one.
constexpr int64_t kShareFrom = 1 << 18;

// Those from which on threads help with the products of few rows: of all steps of a call, or of a chunk of
// them backward, and of a step for each thread. Measured on two cores, where less gained nothing or lost.
constexpr int64_t kHelpFrom = 1 << 24, kHelpStepFrom = 1 << 15;

// Sequences from the first of each share to the end of the last.
std::vector<int64_t> split(
    const std::vector<int64_t>& rows, int64_t begin, int64_t end, int64_t shards) {
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

// Calls body(team, shard, low, high) for shares of the sequences, [low, high), with about as many live
// rows each in the steps [begin, end); a row costs `cost` multiplications. Small batches stay
// whole, since a product of few rows takes as long as one of some more: threads help with the
// products of the steps, which have `parts`, where these are long enough. Little work has one thread,
// since waking another takes microseconds.
template <class Body>
void share(
    const Steps& steps, int64_t begin, int64_t end, int64_t cost, int64_t parts, Body body) {
  const std::vector<int64_t>& rows = steps.rows;
  const int64_t widest = rows[begin], live = steps.first[end - 1] + rows[end - 1] - steps.first[begin];
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
  const std::vector<int64_t> bounds = split(rows, begin, end, shards);
  at::parallel_for(0, shards, 1, [&](int64_t low, int64_t high) {
    for (int64_t s = low; s < high; s++) {
      Team alone(1);
      body(alone, s, bounds[s], bounds[s + 1]);
    }
  });
}

}  // namespace

// What Kept kept, backward: read where it is, or widened in memory of one step's.
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

template <typename T>
void round_to(at::ScalarType storage, T* values, int64_t count) {
  AT_DISPATCH_REDUCED_FLOATING_TYPES(storage, "round_to", [&] {
    for (int64_t i = 0; i < count; i++) values[i] = static_cast<T>(static_cast<scalar_t>(values[i]));
  });
}

template <typename T>
void run_forward(const Steps& steps, const Run<T>& run, typename Run<T>::Step step) {
  const int64_t gates = run.gates, features = run.features;
  const Inputs<T>& in = run.inputs;
  const bool projects = in.weight != nullptr;
  const int64_t cost = gates * (features + (projects ? in.features : 0));
  const auto body = [&](Team& team, int64_t, int64_t low, int64_t high) {
    // Rows of some of the sequences at several steps do not lie together.
    const bool all = low == 0 && high == steps.batch;
    T* const room = in.joint ? run.side.template data<T>() : in.projected;
    Ahead some{0, 0, 0};
    for (int64_t k = 0; k < steps.count; k++) {
      const int64_t t = steps.at(k), live = std::min(high, steps.rows[t]), rows = live - low;
      if (rows <= 0) continue;
      const int64_t row = steps.first[t] + low;
      if (k >= some.end) {
        some = all ? steps.ahead(k) : Ahead{k + 1, steps.first[t], rows};
        const int64_t from = all ? some.base : row;
        if (projects) {
          T* const to = room + run.side.place(from, some.base) * gates;
          const auto project = [&](Columns of) {
            in.weight->multiply(some.rows, in.x + from * in.features, {in.bias, 0}, to, of);
          };
          // What has one part has nothing to share, and may throw.
          if (in.weight->parts() == 1) project({});
          else team.split(project);
        }
      }
      const int64_t place = run.side.place(row, some.base);
      const Rows<T> v{run.side.template data<T>() + place * gates, gates};
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
  share(steps, 0, steps.count, cost, run.weight.parts(), body);
}

// d_x = d W for the rows of a chunk, which are handed on to `taker`. Threads take blocks of rows that are
// as equal as tiles allow, or BLAS takes all.
template <typename T>
void multiply_rows(
    int64_t rows, const Weight<T>& weight, const T* d, T* d_x, const WeightGradient<T>& taker) {
  const int64_t cost = weight.height() * weight.width(), threads = at::get_num_threads();
  const int64_t turns = (rows + threads * kAheadRows - 1) / (threads * kAheadRows);
  constexpr int64_t tile = 16;  // rows, of the products of bfloat16
  const int64_t most = (rows + tile - 1) / tile;
  const int64_t blocks = weight.arranged() ? std::min(turns * threads, most) : 1;
  const auto bound = [&](int64_t i) {
    return i == blocks ? rows : (rows * i / blocks + tile / 2) / tile * tile;
  };
  const int64_t grain = std::max<int64_t>(1, kShareFrom * blocks / (rows * cost));
  at::parallel_for(0, blocks, grain, [&](int64_t low, int64_t high) {
    for (int64_t i = low; i < high; i++) {
      const int64_t first = bound(i), count = bound(i + 1) - first;
      if (count == 0) continue;
      const T* const from = d + first * weight.height();
      weight.multiply(
          count, from, {nullptr, 0}, d_x + first * weight.width(), {}, &taker, first);
    }
  });
}

template <typename T>
void run_backward(
    const Steps& steps, const Backward<T>& to, typename Backward<T>::Step step,
    c10::function_ref<void(int64_t)> chunk) {
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
  const int64_t cost = gates * (features + (of_x ? in.features : 0));
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
    share(steps, begin, end, cost, to.weight.parts(), body);
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

template void round_to(at::ScalarType, float*, int64_t);
template void round_to(at::ScalarType, double*, int64_t);
template void run_forward(const Steps&, const Run<float>&, Run<float>::Step);
template void run_forward(const Steps&, const Run<double>&, Run<double>::Step);
template void run_backward(
    const Steps&, const Backward<float>&, Backward<float>::Step, c10::function_ref<void(int64_t)>);
template void run_backward(
    const Steps&, const Backward<double>&, Backward<double>::Step, c10::function_ref<void(int64_t)>);

}  // namespace lnrnn
