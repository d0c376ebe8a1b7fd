// The GRU of lnrnn.ops.reference.ln_gru, gates in torch's order r, z, n: with u = gain * N(v) + bias,
// v = W h, and a from the input side, r and z = sigmoid(a + u), n = tanh(a_n + r u_n),
// h' = n + z (h - n). Kept for the backward are v, a's rows before their norm unless they are given,
// (N, 3H), and the moments; the gates are recomputed from them.
#include <ATen/Dispatch.h>

#include "norm.hpp"
#include "kernels.hpp"
#include "sequence.hpp"

namespace lnrnn {
namespace {

constexpr int64_t kGruMoments = 3;  // one a gate

// Pointers to what both passes read.
template <typename T>
struct GruLayer {
  GateNorms norms;
  Inputs<T> in;
  const T *gain, *bias;
};

template <typename T>
struct GruGates {
  Vec<T> r, z, n, u_n;
};

// The gates of unit j from a row of v and of the input side. A compiler that sees it called from steps
// with and without dropout would call it at every unit.
template <typename T, class Lanes>
__attribute__((always_inline)) inline GruGates<T> gates_of(
    Lanes lanes, int64_t j, const GruLayer<T>& layer, const T* v, const T* a, const Moments<T>* m,
    const Moments<T>* of_a) {
  const int64_t hidden = layer.norms.hidden;
  const auto u = [&](int64_t q) {
    return affine(lanes, v, m, q, q * hidden + j, layer.gain, layer.bias);
  };
  const auto x = [&](int64_t q) {
    return affine(lanes, a, of_a, q, q * hidden + j, layer.in.gain, layer.in.shift);
  };
  GruGates<T> gates;
  gates.r = sigmoid<T>(x(0) + u(0));
  gates.z = sigmoid<T>(x(1) + u(1));
  gates.u_n = u(2);
  gates.n = tanh<T>(at::vec::fmadd(gates.r, gates.u_n, x(2)));
  return gates;
}

// One row forward; h is the hidden state, replaced. With kDrops, the candidate n is multiplied by
// `scales`, (H).
template <bool kDrops, typename T>
void forward_row(
    const GruLayer<T>& layer, const T* v, const T* a, const Moments<T>* m, const Moments<T>* of_a, T* h,
    const T* scales) {
  sweep<T>(layer.norms.hidden, [&](int64_t j, auto lanes) {
    GruGates<T> gate = gates_of(lanes, j, layer, v, a, m, of_a);
    if constexpr (kDrops) gate.n = gate.n * lanes.load(scales + j);
    lanes.store(h + j, at::vec::fmadd(gate.z, lanes.load(h + j) - gate.n, gate.n));
  });
}

}  // namespace

Tensors<6> ln_gru(
    const Tensor& x, const Tensor& h_0, const Tensor& weight_, const Maybe& gain_,
    const Maybe& bias_, const Maybe& weight_ih, const Maybe& bias_ih, const Maybe& gain_ih,
    const Maybe& shift_ih, const Maybe& batch_sizes, bool reverse, at::IntArrayRef spans,
    bool centered, double eps, std::optional<at::ScalarType> storage,
    std::optional<std::string_view> narrow, bool keep, const Maybe& cuts, const Maybe& reset_h, const Maybe& fresh_h, const Maybe& kept_candidate,
    const Maybe& seen_h, double zoneout, double recurrent_dropout, double variational_dropout) {
  const Tensor weight = weight_.contiguous(), gain = or_ones(gain_, weight.size(0), x);
  const Steps steps(x, batch_sizes, reverse);
  const Products products = products_for(storage, narrow);
  const int64_t hidden = weight.size(1), width = 3 * hidden;
  const int64_t kept = keep ? steps.total : 0;
  const InputTensors inputs(x, weight_ih, bias_ih, gain_ih, shift_ih, false, width);
  const Tensor bias = or_zeros(bias_, width, x);
  Tensor output = for_all_rows(rows_of(x, hidden), x);
  Tensor h_n = h_0.clone(at::MemoryFormat::Contiguous);
  const ResetTensors resets(cuts, reset_h, h_0, false);
  const HiddenNoiseTensors noise(fresh_h, zoneout, seen_h, variational_dropout, h_0);
  const MaskTensor drops(kept_candidate, recurrent_dropout);
  const Tensor memory = empty({kept_candidate ? steps.batch : 0, hidden}, x.scalar_type());
  const bool rounded = storage == at::kBFloat16;
  const Kept side(steps, true, width, x, keep, rounded);
  const Kept projected(steps, inputs.apart(), width, x, keep, rounded);
  Tensor stats = empty({kept, 2 * kGruMoments}, x.scalar_type());
  Tensor input_stats = inputs.moments(kept, kGruMoments);
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "ln_gru", [&] {
    using T = scalar_t;
    const GateNorms of_input{{centered, eps}, spans.vec(), hidden};
    const GateNorms norms{{centered, eps}, spans.vec(), hidden, gain_.has_value()};
    const Weight<T> w({weight.const_data_ptr<T>(), width, hidden, true}, steps.count, products);
    const Weight<T> w_ih = inputs.packed<T>(true, steps.count, products);
    const GruLayer<T> layer{
        norms, inputs.with<T>(w_ih, projected.data<T>(), input_stats, of_input), gain.const_data_ptr<T>(),
        bias.const_data_ptr<T>()};
    T *state = h_n.data_ptr<T>(), *saved = stats.data_ptr<T>();
    const Dropout<T> dropout = drops.dropout<T>(hidden);
    T* const scale = memory.data_ptr<T>();
    const Run<T> run{
        w, width, hidden, layer.in, state, output.data_ptr<T>(), side, projected, resets.with<T>(),
        noise.with<T>(), storage};
    const auto step = [&](auto drops, int64_t t, int64_t low, int64_t high, const T* v, const T* a) {
      constexpr bool kDrops = decltype(drops)::value;
      T* const scales = scale + (kDrops ? low * hidden : 0);
      Moments<T> m[kGruMoments], of_a[kGruMoments];
      for (int64_t s = low; s < high; s++, v += width, a += width) {
        const int64_t row = steps.first[t] + s;
        T* h = state + s * hidden;
        norms.measure(v, m);
        layer.in.measure(row, a, of_a);
        if (keep) std::memcpy(saved + row * 2 * kGruMoments, m, sizeof m);
        if constexpr (kDrops) dropout.scales(row, scales);
        forward_row<kDrops, T>(layer, v, a, m, of_a, h, scales);
      }
    };
    either(dropout.acts(), [&](auto drops) { run_forward(steps, run, bound(drops, step)); });
  });
  return {output, h_n, side.result(), projected.result(), input_stats, stats};
}

Tensors<10> ln_gru_backward(
    const Tensor& d_output_, const Tensor& d_h_n, const Tensor& x, const Tensor& h_0_,
    const Tensor& weight_, const Maybe& gain_, const Maybe& bias_, const Maybe& weight_ih,
    const Maybe& bias_ih, const Maybe& gain_ih, const Maybe& shift_ih, const Tensor& output,
    const Tensor&, const Tensor& side, const Tensor& projected, const Tensor& input_stats,
    const Tensor& stats,
    const Maybe& batch_sizes, bool reverse, at::IntArrayRef spans, bool centered, double eps,
    std::optional<at::ScalarType> storage, std::optional<std::string_view> narrow, std::array<bool, 3> needed,
    const Maybe& cuts, const Maybe& reset_h, const Maybe& fresh_h, const Maybe& kept_candidate,
    const Maybe& seen_h, double zoneout, double recurrent_dropout, double variational_dropout) {
  const Tensor d_output = d_output_.contiguous(), h_0 = h_0_.contiguous();
  const Tensor weight = weight_.contiguous(), gain = or_ones(gain_, weight.size(0), x);
  const Steps steps(x, batch_sizes, reverse);
  const Products products = products_for(storage, narrow);
  const int64_t hidden = weight.size(1), width = 3 * hidden;
  const InputTensors inputs(x, weight_ih, bias_ih, gain_ih, shift_ih, false, width);
  const Tensor bias = or_zeros(bias_, width, x);
  InputGradients d_inputs(inputs, needed[0], needed[2]);
  Tensor d_h_0 = d_h_n.clone(at::MemoryFormat::Contiguous);
  const ResetTensors resets(cuts, reset_h, h_0, true);
  const HiddenNoiseTensors noise(fresh_h, zoneout, seen_h, variational_dropout, h_0);
  const MaskTensor drops(kept_candidate, recurrent_dropout);
  const Tensor memory = empty({kept_candidate ? steps.batch : 0, hidden}, x.scalar_type());
  Tensor d_weight = zeros_if(needed[1], {width, hidden}, x);
  Tensor d_affine = zeros({5, width}, x.scalar_type());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "ln_gru_backward", [&] {
    using T = scalar_t;
    const GateNorms of_input{{centered, eps}, spans.vec(), hidden};
    const GateNorms norms{{centered, eps}, spans.vec(), hidden, gain_.has_value()};
    const Weight<T> w({weight.const_data_ptr<T>(), width, hidden}, steps.count, products);
    const Weight<T> w_ih = inputs.packed<T>(false, steps.count, products);
    const GruLayer<T> layer{
        norms, inputs.with<T>(w_ih, nullptr, input_stats, of_input), gain.const_data_ptr<T>(),
        bias.const_data_ptr<T>()};
    const auto* saved = reinterpret_cast<const Moments<T>*>(stats.const_data_ptr<T>());
    const Dropout<T> dropout = drops.dropout<T>(hidden);
    T* const scale = memory.data_ptr<T>();
    const Backward<T> to{
        w,
        width,
        hidden,
        h_0.const_data_ptr<T>(),
        output.const_data_ptr<T>(),
        d_output.const_data_ptr<T>(),
        resets.with<T>(),
        noise.with<T>(),
        storage,
        side,
        projected,
        d_h_0.data_ptr<T>(),
        true,
        data_or_null<T>(d_weight),
        layer.in,
        data_or_null<T>(d_inputs.x),
        data_or_null<T>(d_inputs.weight),
        products,
        d_affine.data_ptr<T>(),
        5 * width};
    const auto step = [&](auto drops, T* sums, int64_t t, int64_t low, int64_t high, const T* v,
                          const T* a, T* d_v, T* d_a, int64_t) {
      constexpr bool kDrops = decltype(drops)::value;
      T* const scales = scale + (kDrops ? low * hidden : 0);
      const Sums<T> v_sums{sums, sums + width, nullptr};
      const Sums<T> a_sums{sums + 2 * width, sums + 3 * width, sums + 4 * width};
      for (int64_t s = low; s < high; s++, v += width, a += width, d_v += width, d_a += width) {
        const int64_t row = steps.first[t] + s;
        const T* before = to.before(steps, t, s);
        const Moments<T> *m = saved + row * kGruMoments, *of_a = layer.in.measured(row);
        T* d_h = to.d_state + s * hidden;
        if constexpr (kDrops) dropout.scales(row, scales);
        const T* d_out = to.above(row);
        sweep<T>(hidden, [&](int64_t j, auto lanes) {
          const Vec<T> one(T(1));
          const auto [r, z, n, u_n] = gates_of(lanes, j, layer, v, a, m, of_a);
          const Vec<T> d = lanes.load(d_h + j) + lanes.load(d_out + j);
          Vec<T> added = n, d_added = d;
          if constexpr (kDrops) {
            added = n * lanes.load(scales + j);
            d_added = d * lanes.load(scales + j);
          }
          const Vec<T> d_n = d_added * (one - z) * (one - n * n);
          const Vec<T> d_z = d * (lanes.load(before + j) - added) * z * (one - z);
          const Vec<T> d_r = d_n * u_n * r * (one - r);
          lanes.store(d_h + j, d * z);
          lanes.store(d_a + j, d_r);
          lanes.store(d_a + hidden + j, d_z);
          lanes.store(d_a + 2 * hidden + j, d_n);
          lanes.store(d_v + j, d_r);
          lanes.store(d_v + hidden + j, d_z);
          lanes.store(d_v + 2 * hidden + j, d_n * r);
        });
        norms.backward(d_v, d_v, v, m, layer.gain, v_sums);
        layer.in.backward(d_a, a, of_a, a_sums);
      }
    };
    either(dropout.acts(), [&](auto drops) {
      run_backward(steps, to, bound(drops, step), [](int64_t) {});
    });
  });
  const std::vector<Tensor> s = d_affine.unbind();
  return {d_inputs.x,   d_h_0,        d_weight,     s[0].clone(), s[1].clone(), d_inputs.weight,
          s[4].clone(), s[2].clone(), s[3].clone(), resets.d_state};
}

}  // namespace lnrnn
