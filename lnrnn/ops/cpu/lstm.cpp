// The LSTM of lnrnn.ops.reference.ln_lstm, gates in torch's order i, f, g, o: with v = W h and a from
// the input side, joint: gain * N(a + v) + bias, separate: gain * N(v) + bias + (the norm of) a, give
// the gates; c' = sigmoid(f) c + sigmoid(i) tanh(g), h' = W_hr (sigmoid(o) tanh(c^)); c^ is what the
// norm of the cell state makes of c', which it also replaces if it is the state that is normalized.
//
// Kept for the backward: v (joint: the sum) and a before its norm unless it is given, (N, 4H); the
// cell states before each step, (N, H); the moments. The gates and c' are recomputed from them:
// cheaper than to write and read them, and less memory.
#include <ATen/Dispatch.h>

#include "kernels.hpp"
#include "norm.hpp"
#include "sequence.hpp"

namespace lnrnn {
namespace {

constexpr int64_t kCell = 4, kLstmMoments = 5;  // of four gates and the cell

enum class CellNorm { none, output, state };

CellNorm cell_norm(std::optional<std::string_view> cell) {
  if (!cell) return CellNorm::none;
  return *cell == "state" ? CellNorm::state : CellNorm::output;
}

// Pointers to what both passes read.
template <typename T>
struct LstmLayer {
  GateNorms norms;
  Inputs<T> in;
  CellNorm cell;
  const T *gain, *bias, *gain_c, *shift_c;  // bias: of both sides together

  int64_t hidden() const { return norms.hidden; }
};

template <typename T>
struct LstmGates {
  Vec<T> i, f, g, o;
};

// The gates of unit j from a row of v and, unless it is in v already, of the input side.
// A compiler that sees it called from steps with and without dropout would call it at every unit.
template <typename T, class Lanes>
__attribute__((always_inline)) inline LstmGates<T> gates_of(
    Lanes lanes, int64_t j, const LstmLayer<T>& layer, const T* v, const T* a, const Moments<T>* m,
    const Moments<T>* of_a) {
  const auto z = [&](int64_t q) {
    const int64_t at = q * layer.hidden() + j;
    const Vec<T> u = affine(lanes, v, m, q, at, layer.gain, layer.bias);
    if (a == nullptr) return u;
    return at::vec::fmadd(
        normalized(lanes.load(a + at), of_a[q]), lanes.load(layer.in.gain + at), u);
  };
  return {sigmoid<T>(z(0)), sigmoid<T>(z(1)), tanh<T>(z(2)), sigmoid<T>(z(3))};
}

// One row forward. c is the cell state, replaced; m is left holding the moments; y, (H), is what the
// step puts out before a projection. `open` is memory for the output gate, (H). With kDrops, the
// candidate tanh(g) is multiplied by `scales`, (H).
template <bool kDrops, typename T>
void forward_row(
    const LstmLayer<T>& layer, int64_t row, const T* v, const T* a, T* c, Moments<T>* m, T* y,
    T* open, const T* scales) {
  const int64_t hidden = layer.hidden();
  layer.norms.measure(v, m);
  Moments<T> of_a[4];
  if (a != nullptr) layer.in.measure(row, a, of_a);
  sweep<T>(hidden, [&](int64_t j, auto lanes) {
    LstmGates<T> gate = gates_of(lanes, j, layer, v, a, m, of_a);
    if constexpr (kDrops) gate.g = gate.g * lanes.load(scales + j);
    lanes.store(open + j, gate.o);
    lanes.store(c + j, at::vec::fmadd(gate.f, lanes.load(c + j), gate.i * gate.g));
  });
  m[kCell] = layer.cell == CellNorm::none ? Moments<T>{T(0), T(1)}
                                          : moments(c, hidden, layer.norms.norm);
  sweep<T>(hidden, [&](int64_t j, auto lanes) {
    Vec<T> seen = lanes.load(c + j);
    if (layer.cell != CellNorm::none) {
      seen = affine(lanes, c, m + kCell, 0, j, layer.gain_c, layer.shift_c);
    }
    if (layer.cell == CellNorm::state) lanes.store(c + j, seen);
    lanes.store(y + j, lanes.load(open + j) * tanh<T>(seen));
  });
}

}  // namespace

Tensors<8> ln_lstm(
    const Tensor& x, const Tensor& h_0, const Tensor& c_0, const Tensor& weight_,
    const Maybe& gain_, const Maybe& bias_, const Maybe& gain_c_, const Maybe& shift_c_,
    const Maybe& weight_hr, const Maybe& weight_ih, const Maybe& bias_ih, const Maybe& gain_ih,
    const Maybe& shift_ih, const Maybe& batch_sizes, bool reverse, bool joint,
    at::IntArrayRef spans, std::optional<std::string_view> cell, bool centered, double eps,
    std::optional<at::ScalarType> storage, std::optional<std::string_view> narrow, bool keep,
    const Maybe& cuts, const Maybe& reset_h, const Maybe& reset_c, const Maybe& fresh_h,
    const Maybe& fresh_c, const Maybe& kept_candidate, const Maybe& seen_h, double zoneout,
    double zoneout_c, double recurrent_dropout, double variational_dropout) {
  const Tensor weight = weight_.contiguous(), gain = or_ones(gain_, weight.size(0), x);
  const Steps steps(x, batch_sizes, reverse);
  const Products products = products_for(storage, narrow);
  const int64_t hidden = c_0.size(1), features = weight.size(1), width = 4 * hidden;
  const int64_t kept = keep ? steps.total : 0;
  const InputTensors inputs(x, weight_ih, bias_ih, gain_ih, shift_ih, joint, width);
  const Tensor bias = or_zeros(bias_, width, x).add(inputs.shift);
  const Tensor gain_c = or_zeros(gain_c_, hidden, x), shift_c = or_zeros(shift_c_, hidden, x);
  const bool projects = weight_hr.has_value();
  const Tensor down = projects ? weight_hr->contiguous() : empty({0, hidden}, x.scalar_type());
  Tensor output = for_all_rows(rows_of(x, features), x);
  Tensor h_n = h_0.clone(at::MemoryFormat::Contiguous);
  Tensor c_n = c_0.clone(at::MemoryFormat::Contiguous);
  const ResetTensors resets(cuts, reset_h, h_0, false), resets_c(cuts, reset_c, c_0, false);
  const HiddenNoiseTensors noise(fresh_h, zoneout, seen_h, variational_dropout, h_0);
  const MaskTensor noise_c(fresh_c, zoneout_c), drops(kept_candidate, recurrent_dropout);
  const bool rounded = storage == at::kBFloat16;
  const Kept side(steps, true, width, x, keep, rounded);
  const Kept projected(steps, inputs.apart(), width, x, keep, rounded);
  Tensor cells = for_all_rows({kept, hidden}, x);
  Tensor stats = empty({kept, 2 * kLstmMoments}, x.scalar_type());
  Tensor input_stats = inputs.moments(kept, 4);
  // A row a sequence: no sharing. Output gates, cell states as a step finds them, scales.
  const Tensor opens = empty({3, steps.batch, hidden}, x.scalar_type());
  const Tensor wide = empty({projects ? steps.batch : 0, hidden}, x.scalar_type());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "ln_lstm", [&] {
    using T = scalar_t;
    const GateNorms of_input{{centered, eps}, spans.vec(), hidden};
    const GateNorms norms{{centered, eps}, spans.vec(), hidden, gain_.has_value()};
    const Weight<T> w({weight.const_data_ptr<T>(), width, features, true}, steps.count, products);
    const Weight<T> w_ih = inputs.packed<T>(true, steps.count, products);
    const Weight<T> w_hr({down.const_data_ptr<T>(), down.size(0), hidden, true}, steps.count, products);
    const LstmLayer<T> layer{
        norms,
        inputs.with<T>(w_ih, projected.data<T>(), input_stats, of_input),
        cell_norm(cell),
        gain.const_data_ptr<T>(),
        bias.const_data_ptr<T>(),
        gain_c.const_data_ptr<T>(),
        shift_c.const_data_ptr<T>()};
    T *state = h_n.data_ptr<T>(), *cs = c_n.data_ptr<T>();
    T *kept_cells = cells.data_ptr<T>(), *saved = stats.data_ptr<T>();
    const Resets<T> of_c = resets_c.with<T>();
    const Zoneout<T> zoneout_of_c = noise_c.zoneout<T>(hidden);
    const Dropout<T> dropout = drops.dropout<T>(hidden);
    T *const open = opens.data_ptr<T>(), *const old = open + steps.batch * hidden;
    T* const scales = old + steps.batch * hidden;
    T* const y = projects ? wide.data_ptr<T>() : state;  // (B, H) either way
    const auto step = [&](auto drops, int64_t t, int64_t low, int64_t high, const T* v, const T* a) {
      constexpr bool kDrops = decltype(drops)::value;
      Moments<T> m[kLstmMoments];
      for (int64_t s = low; s < high; s++, v += width, a += joint ? 0 : width) {
        const int64_t row = steps.first[t] + s;
        T* c = cs + s * hidden;
        const int64_t room = low * hidden;
        if (keep) std::memcpy(kept_cells + row * hidden, c, hidden * sizeof(T));
        if (zoneout_of_c.acts()) std::memcpy(old + room, c, hidden * sizeof(T));
        if constexpr (kDrops) dropout.scales(row, scales + room);
        forward_row<kDrops, T>(layer, row, v, a, c, m, y + s * hidden, open + room, scales + room);
        if (zoneout_of_c.acts()) zoneout_of_c.mix(row, 1, old + room, c);
        if (keep) std::memcpy(saved + row * 2 * kLstmMoments, m, sizeof m);
        of_c.replace(row, s, cs);
      }
      if (!projects) return;
      if (storage) round_to(*storage, y + low * hidden, (high - low) * hidden);
      w_hr.multiply(high - low, y + low * hidden, {nullptr, 0}, state + low * features);
    };
    const Run<T> run{
        w, width, features, layer.in, state, output.data_ptr<T>(), side, projected, resets.with<T>(),
        noise.with<T>(), storage};
    either(dropout.acts(), [&](auto drops) { run_forward(steps, run, bound(drops, step)); });
  });
  return {output, h_n, c_n, side.result(), projected.result(), input_stats, cells, stats};
}

namespace {

// One row backward: from d_y, the gradient of what the step put out, and d_c, that of the cell
// state it left, to d_z, (4H), that of the gates before they bend, and the gradient of the cell state
// it found, in d_c. `memory` is (5, H); y is what the step put out, computed again, for the
// projection's gradient. With kDrops, `scales`, (H), are as in the forward.
template <bool kDrops, typename T>
void backward_row(
    const LstmLayer<T>& layer, const T* v, const T* a, const T* c_before, const Moments<T>* m,
    const Moments<T>* of_a, const T* d_y, const T* d_y_more, T* d_c, T* d_z, T* sums_c, T* memory, T* y,
    const T* scales) {
  const int64_t hidden = layer.hidden();
  T *i_ = memory, *f_ = i_ + hidden, *g_ = f_ + hidden, *c_ = g_ + hidden, *d_ = c_ + hidden;
  sweep<T>(hidden, [&](int64_t j, auto lanes) {
    const Vec<T> one(T(1));
    const auto [i, f, g, o] = gates_of(lanes, j, layer, v, a, m, of_a);
    Vec<T> added = g;
    if constexpr (kDrops) added = g * lanes.load(scales + j);
    const Vec<T> c = at::vec::fmadd(f, lanes.load(c_before + j), i * added);
    lanes.store(i_ + j, i);
    lanes.store(f_ + j, f);
    lanes.store(g_ + j, g);
    lanes.store(c_ + j, c);
    Vec<T> seen = c;
    if (layer.cell != CellNorm::none) {
      seen = at::vec::fmadd(
          normalized(c, m[kCell]), lanes.load(layer.gain_c + j), lanes.load(layer.shift_c + j));
    }
    const Vec<T> bent = tanh<T>(seen), d = lanes.load(d_y + j) + lanes.load(d_y_more + j);
    if (y != nullptr) lanes.store(y + j, o * bent);
    lanes.store(d_z + 3 * hidden + j, d * bent * o * (one - o));
    Vec<T> d_seen = d * o * (one - bent * bent);
    if (layer.cell != CellNorm::output) d_seen = d_seen + lanes.load(d_c + j);  // it is carried
    lanes.store(d_ + j, d_seen);
  });
  if (layer.cell != CellNorm::none) {
    const Sums<T> sums{sums_c, sums_c + hidden, nullptr};
    norm_backward(d_, d_, c_, m[kCell], hidden, layer.norms.norm, layer.gain_c, sums);
  }
  sweep<T>(hidden, [&](int64_t j, auto lanes) {
    const Vec<T> one(T(1)), i = lanes.load(i_ + j), f = lanes.load(f_ + j), g = lanes.load(g_ + j);
    Vec<T> d = lanes.load(d_ + j);
    if (layer.cell == CellNorm::output) d = d + lanes.load(d_c + j);
    Vec<T> added = g, d_g = d;
    if constexpr (kDrops) {
      added = g * lanes.load(scales + j);
      d_g = d * lanes.load(scales + j);
    }
    lanes.store(d_z + j, d * added * i * (one - i));
    lanes.store(d_z + hidden + j, d * lanes.load(c_before + j) * f * (one - f));
    lanes.store(d_z + 2 * hidden + j, d_g * i * (one - g * g));
    lanes.store(d_c + j, d * f);
  });
}

// The gradients of a projection of the hidden state: of a chunk's rows before it, and of its weight.
template <typename T>
struct Projection {
  Weight<T> weight;     // R to H
  int64_t features, hidden;
  const T* d_state;     // (B, R), what later steps add to the gradient of the output
  T *d_narrow, *d_wide; // (chunk, R), (chunk, H): gradients after and before it
  T* y;                 // (chunk, H) before it
  WeightGradient<T> d_weight;

  // `above` is the gradient of the output, from the first of the rows on.
  void backward(const T* above, int64_t sequence, int64_t at, int64_t rows) const {
    const T* later = d_state + sequence * features;
    T* const d = d_narrow + at * features;
    sweep<T>(rows * features, [&](int64_t i, auto lanes) {
      lanes.store(d + i, lanes.load(above + i) + lanes.load(later + i));
    });
    weight.multiply(rows, d, {nullptr, 0}, d_wide + at * hidden);
  }

  void add_weight(int64_t rows) const { d_weight.add(rows, d_narrow, y); }
};

}  // namespace

Tensors<15> ln_lstm_backward(
    const Tensor& d_output_, const Tensor& d_h_n, const Tensor& d_c_n, const Tensor& x,
    const Tensor& h_0_, const Tensor& c_0, const Tensor& weight_, const Maybe& gain_,
    const Maybe& bias_, const Maybe& gain_c_, const Maybe& shift_c_, const Maybe& weight_hr,
    const Maybe& weight_ih, const Maybe& bias_ih, const Maybe& gain_ih, const Maybe& shift_ih,
    const Tensor& output, const Tensor&, const Tensor&, const Tensor& side, const Tensor& projected,
    const Tensor& input_stats, const Tensor& cells, const Tensor& stats, const Maybe& batch_sizes, bool reverse, bool joint,
    at::IntArrayRef spans, std::optional<std::string_view> cell, bool centered, double eps,
    std::optional<at::ScalarType> storage, std::optional<std::string_view> narrow, std::array<bool, 3> needed,
    const Maybe& cuts, const Maybe& reset_h, const Maybe& reset_c, const Maybe& fresh_h,
    const Maybe& fresh_c, const Maybe& kept_candidate, const Maybe& seen_h, double zoneout,
    double zoneout_c, double recurrent_dropout, double variational_dropout) {
  const Tensor d_output = d_output_.contiguous(), h_0 = h_0_.contiguous();
  const Tensor weight = weight_.contiguous(), gain = or_ones(gain_, weight.size(0), x);
  const Steps steps(x, batch_sizes, reverse);
  const Products products = products_for(storage, narrow);
  const int64_t hidden = c_0.size(1), features = weight.size(1), width = 4 * hidden;
  const bool projects = weight_hr.has_value();
  const InputTensors inputs(x, weight_ih, bias_ih, gain_ih, shift_ih, joint, width);
  const Tensor bias = or_zeros(bias_, width, x).add(inputs.shift);
  const Tensor gain_c = or_zeros(gain_c_, hidden, x), shift_c = or_zeros(shift_c_, hidden, x);
  const Tensor down = projects ? weight_hr->contiguous() : empty({0, hidden}, x.scalar_type());
  InputGradients d_inputs(inputs, needed[0], needed[2]);
  Tensor d_h_0 = d_h_n.clone(at::MemoryFormat::Contiguous);
  Tensor d_c_0 = d_c_n.clone(at::MemoryFormat::Contiguous);
  const ResetTensors resets(cuts, reset_h, h_0, true), resets_c(cuts, reset_c, c_0, true);
  const HiddenNoiseTensors noise(fresh_h, zoneout, seen_h, variational_dropout, h_0);
  const MaskTensor noise_c(fresh_c, zoneout_c), drops(kept_candidate, recurrent_dropout);
  Tensor d_weight = zeros_if(needed[1], {width, features}, x);
  Tensor d_affine = zeros({4 * width + 2 * hidden}, x.scalar_type());
  Tensor d_down = zeros(down.sizes(), x.scalar_type());
  const int64_t most = projects ? chunk_rows(steps) : 0;
  const Tensor wide = empty({2, most, hidden}, x.scalar_type());
  const Tensor slim = empty({most, features}, x.scalar_type());
  const Tensor nothing = zeros({projects ? hidden : 0}, x.scalar_type());
  const Tensor memories = empty({steps.batch, 7 * hidden}, x.scalar_type());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "ln_lstm_backward", [&] {
    using T = scalar_t;
    const GateNorms of_input{{centered, eps}, spans.vec(), hidden};
    const GateNorms norms{{centered, eps}, spans.vec(), hidden, gain_.has_value()};
    const Weight<T> w({weight.const_data_ptr<T>(), width, features}, steps.count, products);
    const Weight<T> w_ih = inputs.packed<T>(false, steps.count, products);
    const LstmLayer<T> layer{
        norms,
        inputs.with<T>(w_ih, nullptr, input_stats, of_input),
        cell_norm(cell),
        gain.const_data_ptr<T>(),
        bias.const_data_ptr<T>(),
        gain_c.const_data_ptr<T>(),
        shift_c.const_data_ptr<T>()};
    const T *cs = cells.const_data_ptr<T>(), *zeros = nothing.const_data_ptr<T>();
    const auto* saved = reinterpret_cast<const Moments<T>*>(stats.const_data_ptr<T>());
    T *d_state = d_h_0.data_ptr<T>(), *d_cs = d_c_0.data_ptr<T>();
    T* const memory = memories.data_ptr<T>();
    const Resets<T> of_c = resets_c.with<T>();
    const Zoneout<T> zoneout_of_c = noise_c.zoneout<T>(hidden);
    const Dropout<T> dropout = drops.dropout<T>(hidden);
    const Projection<T> projection{
        {{down.const_data_ptr<T>(), down.size(0), hidden}, steps.count, products},
        features,
        hidden,
        d_state,
        slim.data_ptr<T>(),
        wide.data_ptr<T>(),
        wide.data_ptr<T>() + most * hidden,
        {d_down.data_ptr<T>(), down.size(0), hidden, most, products}};
    const Backward<T> to{
        w,
        width,
        features,
        h_0.const_data_ptr<T>(),
        output.const_data_ptr<T>(),
        d_output.const_data_ptr<T>(),
        resets.with<T>(),
        noise.with<T>(),
        storage,
        side,
        projected,
        d_state,
        false,
        data_or_null<T>(d_weight),
        layer.in,
        data_or_null<T>(d_inputs.x),
        data_or_null<T>(d_inputs.weight),
        products,
        d_affine.data_ptr<T>(),
        4 * width + 2 * hidden};
    const auto step = [&](auto drops, T* sums, int64_t t, int64_t low, int64_t high, const T* v,
                          const T* a, T* d_v, T* d_a, int64_t at) {
      constexpr bool kDrops = decltype(drops)::value;
      T *before = sums + 3 * width, *sums_c = before + width;
      const Sums<T> v_sums{sums, sums + width, joint ? before : nullptr};
      const Sums<T> a_sums{sums + 2 * width, nullptr, before};
      const int64_t first = steps.first[t], next = joint ? 0 : width;
      if (projects) projection.backward(to.above(first + low), low, at, high - low);
      for (int64_t s = low; s < high; s++, at++, v += width, a += next, d_v += width, d_a += width) {
        const int64_t row = first + s;
        const Moments<T> *m = saved + row * kLstmMoments, *of_a = layer.in.measured(row);
        of_c.take_back(row, s, d_cs);
        const T* d_y = projects ? projection.d_wide + at * hidden : d_state + s * hidden;
        T *const room = memory + low * 7 * hidden, *const scales = room + 5 * hidden;
        T *const d_old = scales + hidden, *const d_c = d_cs + s * hidden;
        if (zoneout_of_c.acts()) zoneout_of_c.split(row, 1, d_c, d_old);
        if constexpr (kDrops) dropout.scales(row, scales);
        backward_row<kDrops, T>(
            layer, v, a, cs + row * hidden, m, of_a, d_y, projects ? zeros : to.above(row), d_c, d_a,
            sums_c, room, projects ? projection.y + at * hidden : nullptr, scales);
        for (int64_t j = 0; zoneout_of_c.acts() && j < hidden; j++) d_c[j] += d_old[j];
        norms.backward(d_a, d_v, v, m, layer.gain, v_sums);
        if (!joint) layer.in.backward(d_a, a, of_a, a_sums);
      }
    };
    const auto chunk = [&](int64_t rows) {
      if (projects) projection.add_weight(rows);
    };
    either(dropout.acts(), [&](auto drops) { run_backward(steps, to, bound(drops, step), chunk); });
  });
  const std::vector<Tensor> s =
      d_affine.split_with_sizes({width, width, width, width, hidden, hidden});
  return {d_inputs.x,   d_h_0,        d_c_0,  d_weight,        s[0].clone(),
          s[1].clone(), s[4].clone(), s[5].clone(), d_down, d_inputs.weight,
          s[3].clone(), s[2].clone(), s[1].clone(), resets.d_state, resets_c.d_state};
}

}  // namespace lnrnn
