// The LSTM of lnrnn.ops.reference.ln_lstm, gates in torch's order i, f, g, o: with
// u = gain * N(v) + bias and joint: v = x + W h, z = u; separate: v = W h, z = x + u,
// c' = sigmoid(f) c + sigmoid(i) tanh(g), h' = W_hr (sigmoid(o) tanh(c^)); c^ is what the norm of the
// cell state makes of c', which it also replaces if it is the state that is normalized.
//
// Kept for the backward: v, (N, 4H); the cell states before each step, (N, H); the moments of each
// gate's norm and of the cell's, (N, 5, 2). The gates and c' are recomputed from them: cheaper than
// to write and read them, and less memory.
#include <ATen/Dispatch.h>
#include <torch/library.h>

#include "norm.hpp"
#include "sequence.hpp"

namespace lnrnn {
namespace {

using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;
using Gradients =
    std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

constexpr int64_t kMoments = 5;  // of four gates and the cell

enum class CellNorm { none, output, state };

CellNorm cell_norm(std::optional<std::string_view> cell) {
  if (!cell) return CellNorm::none;
  return *cell == "state" ? CellNorm::state : CellNorm::output;
}

template <typename T>
struct Gates {
  Vec<T> i, f, g, o;
};

// The gates of unit j from a row of v and, unless it is in v already, of x.
template <typename T, class Lanes>
inline Gates<T> gates_of(
    Lanes lanes, int64_t j, int64_t hidden, const T* x, const T* v, const Moments<T>* m,
    const T* gain, const T* bias) {
  const auto z = [&](int64_t q) {
    const int64_t at = q * hidden + j;
    const Vec<T> u = affine(lanes, v, m, q, at, gain, bias);
    return x == nullptr ? u : u + lanes.load(x + at);
  };
  return {sigmoid<T>(z(0)), sigmoid<T>(z(1)), tanh<T>(z(2)), sigmoid<T>(z(3))};
}

// Pointers to what both passes read, and the sizes.
template <typename T>
struct Layer {
  GateNorms norms;
  CellNorm cell;
  bool joint;
  int64_t hidden;
  const T *x, *gain, *bias, *gain_c, *shift_c;

  const T* input(int64_t row) const { return joint ? nullptr : x + row * 4 * hidden; }
};

// One row forward. c is the cell state, replaced; m is left holding the moments; y, (H), is what the
// step puts out before a projection. `open` is memory for the output gate, (H).
template <typename T>
void forward_row(const Layer<T>& layer, int64_t row, T* v, T* c, Moments<T>* m, T* y, T* open) {
  const int64_t hidden = layer.hidden;
  if (layer.joint) {
    const T* x = layer.x + row * 4 * hidden;
    sweep<T>(4 * hidden, [&](int64_t i, auto lanes) {
      lanes.store(v + i, lanes.load(v + i) + lanes.load(x + i));
    });
  }
  layer.norms.measure(v, m);
  const T* x = layer.input(row);
  sweep<T>(hidden, [&](int64_t j, auto lanes) {
    const Gates<T> gate = gates_of(lanes, j, hidden, x, v, m, layer.gain, layer.bias);
    lanes.store(open + j, gate.o);
    lanes.store(c + j, at::vec::fmadd(gate.f, lanes.load(c + j), gate.i * gate.g));
  });
  m[4] = layer.cell == CellNorm::none ? Moments<T>{T(0), T(1)}
                                      : moments(c, hidden, layer.norms.norm);
  sweep<T>(hidden, [&](int64_t j, auto lanes) {
    Vec<T> seen = lanes.load(c + j);
    if (layer.cell != CellNorm::none) {
      seen = affine(lanes, c, m + 4, 0, j, layer.gain_c, layer.shift_c);
    }
    if (layer.cell == CellNorm::state) lanes.store(c + j, seen);
    lanes.store(y + j, lanes.load(open + j) * tanh<T>(seen));
  });
}

Forward ln_lstm(
    const Tensor& x_, const Tensor& h_0, const Tensor& c_0, const Tensor& weight_,
    const Tensor& gain_, const Maybe& bias_, const Maybe& gain_c_, const Maybe& shift_c_,
    const Maybe& weight_hr, const Maybe& batch_sizes, bool reverse, bool joint,
    at::IntArrayRef spans, std::optional<std::string_view> cell, bool centered, double eps,
    bool keep) {
  const Tensor x = x_.contiguous(), weight = weight_.contiguous(), gain = gain_.contiguous();
  const Steps steps(x, batch_sizes, reverse);
  const int64_t hidden = c_0.size(1), features = weight.size(1), width = 4 * hidden;
  const int64_t kept = keep ? steps.total : steps.batch;
  const Tensor bias = or_zeros(bias_, width, x);
  const Tensor gain_c = or_zeros(gain_c_, hidden, x), shift_c = or_zeros(shift_c_, hidden, x);
  const Tensor down = weight_hr ? weight_hr->contiguous() : at::empty({0, hidden}, x.options());
  Tensor output = at::empty(rows_of(x, features), x.options());
  Tensor h_n = h_0.clone(at::MemoryFormat::Contiguous);
  Tensor c_n = c_0.clone(at::MemoryFormat::Contiguous);
  Tensor side = at::empty({kept, width}, x.options());
  Tensor cells = at::empty({keep ? kept : 0, hidden}, x.options());
  Tensor stats = at::empty({keep ? kept : 0, 2 * kMoments}, x.options());
  const Tensor opens = at::empty({steps.batch, hidden}, x.options());  // a row a sequence: no sharing
  const Tensor wide = at::empty({weight_hr ? steps.batch : 0, hidden}, x.options());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "ln_lstm", [&] {
    using T = scalar_t;
    const Layer<T> layer{
        {{centered, eps}, spans.vec(), hidden}, cell_norm(cell),
        joint,                                  hidden,
        x.const_data_ptr<T>(),                  gain.const_data_ptr<T>(),
        bias.const_data_ptr<T>(),               gain_c.const_data_ptr<T>(),
        shift_c.const_data_ptr<T>()};
    T *hs = output.data_ptr<T>(), *state = h_n.data_ptr<T>(), *cs = c_n.data_ptr<T>();
    T *kept_cells = cells.data_ptr<T>(), *saved = stats.data_ptr<T>();
    T *open = opens.data_ptr<T>(), *before_projection = wide.data_ptr<T>();
    const bool projects = weight_hr.has_value();
    const Matrix<T> w{weight.const_data_ptr<T>(), width, features};
    const auto step = [&](int64_t t, int64_t low, int64_t high, T* v) {
      Moments<T> m[kMoments];
      T* const y = projects ? before_projection : state;  // (B, H) either way
      for (int64_t s = low; s < high; s++, v += width) {
        const int64_t row = steps.first[t] + s;
        T* c = cs + s * hidden;
        if (keep) std::memcpy(kept_cells + row * hidden, c, hidden * sizeof(T));
        forward_row(layer, row, v, c, m, y + s * hidden, open + low * hidden);
        if (keep) std::memcpy(saved + row * 2 * kMoments, m, sizeof m);
      }
      T* h = state + low * features;
      if (projects) {
        const Matrix<T> rows{y + low * hidden, high - low, hidden};
        multiply(h, rows, transposed(down.const_data_ptr<T>(), features, hidden));
      }
      std::memcpy(
          hs + (steps.first[t] + low) * features, h, (high - low) * features * sizeof(T));
    };
    run_forward<T>(steps, w, state, side.data_ptr<T>(), keep, step);
  });
  if (!keep) side = at::empty({0, width}, x.options());
  return {output, h_n, c_n, side, cells, stats};
}

// One row backward: from d_y, the gradient of what the step put out, and d_c, that of the cell
// state it left, to d_z, (4H), and the gradient of the cell state it found, in d_c. `memory` is
// (6, H); y is what the step put out, computed again, for the projection's gradient.
template <typename T>
void backward_row(
    const Layer<T>& layer, int64_t row, const T* v, const T* c_before, const Moments<T>* m,
    const T* d_y, const T* d_y_more, T* d_c, T* d_z, T* sums_c, T* memory, T* y) {
  const int64_t hidden = layer.hidden;
  T *i_ = memory, *f_ = i_ + hidden, *g_ = f_ + hidden, *c_ = g_ + hidden, *d_ = c_ + hidden;
  const T* x = layer.input(row);
  sweep<T>(hidden, [&](int64_t j, auto lanes) {
    const Vec<T> one(T(1));
    const auto [i, f, g, o] = gates_of(lanes, j, hidden, x, v, m, layer.gain, layer.bias);
    const Vec<T> c = at::vec::fmadd(f, lanes.load(c_before + j), i * g);
    lanes.store(i_ + j, i);
    lanes.store(f_ + j, f);
    lanes.store(g_ + j, g);
    lanes.store(c_ + j, c);
    Vec<T> seen = c;
    if (layer.cell != CellNorm::none) {
      seen = at::vec::fmadd(
          normalized(c, m[4]), lanes.load(layer.gain_c + j), lanes.load(layer.shift_c + j));
    }
    const Vec<T> bent = tanh<T>(seen), d = lanes.load(d_y + j) + lanes.load(d_y_more + j);
    if (y != nullptr) lanes.store(y + j, o * bent);
    lanes.store(d_z + 3 * hidden + j, d * bent * o * (one - o));
    Vec<T> d_seen = d * o * (one - bent * bent);
    if (layer.cell != CellNorm::output) d_seen = d_seen + lanes.load(d_c + j);  // it is carried
    lanes.store(d_ + j, d_seen);
  });
  if (layer.cell != CellNorm::none) {
    norm_backward(
        d_, d_, c_, m[4], hidden, layer.norms.norm, layer.gain_c, sums_c, sums_c + hidden);
  }
  sweep<T>(hidden, [&](int64_t j, auto lanes) {
    const Vec<T> one(T(1)), i = lanes.load(i_ + j), f = lanes.load(f_ + j), g = lanes.load(g_ + j);
    Vec<T> d = lanes.load(d_ + j);
    if (layer.cell == CellNorm::output) d = d + lanes.load(d_c + j);
    lanes.store(d_z + j, d * g * i * (one - i));
    lanes.store(d_z + hidden + j, d * lanes.load(c_before + j) * f * (one - f));
    lanes.store(d_z + 2 * hidden + j, d * i * (one - g * g));
    lanes.store(d_c + j, d * f);
  });
}

Gradients ln_lstm_backward(
    const Tensor& d_output_, const Tensor& d_h_n, const Tensor& d_c_n, const Tensor& x_,
    const Tensor& h_0_, const Tensor& c_0, const Tensor& weight_, const Tensor& gain_,
    const Maybe& bias_, const Maybe& gain_c_, const Maybe& shift_c_, const Maybe& weight_hr,
    const Tensor& output, const Tensor&, const Tensor&, const Tensor& side, const Tensor& cells,
    const Tensor& stats, const Maybe& batch_sizes, bool reverse, bool joint, at::IntArrayRef spans,
    std::optional<std::string_view> cell, bool centered, double eps) {
  const Tensor d_output = d_output_.contiguous(), h_0 = h_0_.contiguous();
  const Tensor x = x_.contiguous(), weight = weight_.contiguous(), gain = gain_.contiguous();
  const Steps steps(x, batch_sizes, reverse);
  const int64_t hidden = c_0.size(1), features = weight.size(1), width = 4 * hidden;
  const bool projects = weight_hr.has_value();
  const Tensor bias = or_zeros(bias_, width, x);
  const Tensor gain_c = or_zeros(gain_c_, hidden, x), shift_c = or_zeros(shift_c_, hidden, x);
  const Tensor down = projects ? weight_hr->contiguous() : at::empty({0, hidden}, x.options());
  Tensor d_x = at::empty(x.sizes(), x.options());
  Tensor d_h_0 = d_h_n.clone(at::MemoryFormat::Contiguous);
  Tensor d_c_0 = d_c_n.clone(at::MemoryFormat::Contiguous);
  Tensor d_weight = at::zeros({width, features}, x.options());
  Tensor d_affine = at::zeros({2 * width + 2 * hidden}, x.options());
  Tensor d_down = at::zeros({projects ? features : 0, hidden}, x.options());
  // For the projection: what a chunk's rows put out before and after it, and their gradients.
  const int64_t most = projects ? std::max(std::min(kChunkRows, steps.total), steps.batch) : 0;
  const Tensor wide = at::empty({most, hidden}, x.options());
  const Tensor d_wide = at::empty({most, hidden}, x.options());
  const Tensor d_narrow = at::empty({most, features}, x.options());
  const Tensor nothing = at::zeros({projects ? hidden : 0}, x.options());
  const Tensor memories = at::empty({steps.batch, 6 * hidden}, x.options());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "ln_lstm_backward", [&] {
    using T = scalar_t;
    const Layer<T> layer{
        {{centered, eps}, spans.vec(), hidden}, cell_norm(cell),
        joint,                                  hidden,
        x.const_data_ptr<T>(),                  gain.const_data_ptr<T>(),
        bias.const_data_ptr<T>(),               gain_c.const_data_ptr<T>(),
        shift_c.const_data_ptr<T>()};
    const T *d_hs = d_output.const_data_ptr<T>(), *vs = side.const_data_ptr<T>();
    const T *cs = cells.const_data_ptr<T>(), *zeros = nothing.const_data_ptr<T>();
    const auto* saved = reinterpret_cast<const Moments<T>*>(stats.const_data_ptr<T>());
    T *d_xs = d_x.data_ptr<T>(), *d_state = d_h_0.data_ptr<T>(), *d_cs = d_c_0.data_ptr<T>();
    T *ys = wide.data_ptr<T>(), *d_ys = d_wide.data_ptr<T>(), *d_ps = d_narrow.data_ptr<T>();
    T* memory = memories.data_ptr<T>();
    const Matrix<T> w_hr{down.const_data_ptr<T>(), features, hidden};
    const Backward<T> to{
        {weight.const_data_ptr<T>(), width, features},
        h_0.const_data_ptr<T>(),
        output.const_data_ptr<T>(),
        d_state,
        joint ? d_xs : nullptr,
        d_weight.data_ptr<T>(),
        d_affine.data_ptr<T>(),
        2 * width + 2 * hidden,
        false};
    const auto step = [&](T* sums, int64_t t, int64_t low, int64_t high, T* d_v, int64_t at) {
      const int64_t first = steps.first[t] + low;
      if (projects) {
        const T *above = d_hs + first * features, *later = d_state + low * features;
        T* d_p = d_ps + at * features;
        sweep<T>((high - low) * features, [&](int64_t i, auto lanes) {
          lanes.store(d_p + i, lanes.load(above + i) + lanes.load(later + i));
        });
        multiply(d_ys + at * hidden, {d_p, high - low, features}, w_hr);
      }
      for (int64_t n = 0; n < high - low; n++, d_v += width) {
        const int64_t row = first + n, s = low + n;
        const T *v = vs + row * width, *d_y = projects ? d_ys + (at + n) * hidden
                                                       : d_state + s * hidden;
        const T* d_y_more = projects ? zeros : d_hs + row * hidden;
        T* d_z = d_xs + row * width;  // that of u too, and of x unless it is in v
        backward_row(
            layer, row, v, cs + row * hidden, saved + row * kMoments, d_y, d_y_more,
            d_cs + s * hidden, d_z, sums + 2 * width, memory + low * 6 * hidden,
            projects ? ys + (at + n) * hidden : nullptr);
        layer.norms.backward(
            d_z, d_v, v, saved + row * kMoments, layer.gain, sums, sums + width);
      }
    };
    run_backward<T>(steps, to, step, [&](int64_t rows) {
      if (!projects) return;
      multiply(d_down.data_ptr<T>(), transposed<T>(d_ps, rows, features), {ys, rows, hidden}, true);
    });
  });
  const std::vector<Tensor> d = d_affine.split_with_sizes({width, width, hidden, hidden});
  return {d_x,        d_h_0,        d_c_0,        d_weight,     d[0].clone(),
          d[1].clone(), d[2].clone(), d[3].clone(), d_down};
}

TORCH_LIBRARY_IMPL(lnrnn, CPU, m) {
  m.impl("ln_lstm", ln_lstm);
  m.impl("ln_lstm_backward", ln_lstm_backward);
}

}  // namespace
}  // namespace lnrnn
