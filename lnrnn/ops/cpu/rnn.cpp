// The Elman RNN of lnrnn.ops.reference.ln_rnn: h' = act(u), with v = W h and z from the input side;
// joint: u = gain * N(z + v) + bias, separate: u = gain * N(v) + bias + (the norm of) z. Kept for the
// backward are v (joint: the sum), z unless it is given or joint, (N, H), and the moments.
#include <ATen/Dispatch.h>

#include "kernels.hpp"
#include "sequence.hpp"

namespace lnrnn {
namespace {

// Pointers to what both passes read.
template <typename T>
struct RnnLayer {
  GateNorms norms;
  Inputs<T> in;
  bool relu;
  const T *gain, *bias;
};

// What the step makes of unit i, from a row of v and, unless it is in v already, of the input side.
template <typename T, class Lanes>
inline Vec<T> activated(
    Lanes lanes, int64_t i, const RnnLayer<T>& layer, const T* v, const T* z, const Moments<T>* m,
    const Moments<T>* of_z) {
  Vec<T> u = affine(lanes, v, m, 0, i, layer.gain, layer.bias);
  if (!layer.in.joint) u = u + affine(lanes, z, of_z, 0, i, layer.in.gain, layer.in.shift);
  // A comparison, not a maximum: NaN has to stay NaN.
  const Vec<T> zero(T(0));
  return layer.relu ? Vec<T>::blendv(u, zero, u < zero) : tanh<T>(u);
}

}  // namespace

Tensors<6> ln_rnn(
    const Tensor& x, const Tensor& h_0, const Tensor& weight_, const Maybe& gain_,
    const Maybe& bias_, const Maybe& weight_ih, const Maybe& bias_ih, const Maybe& gain_ih,
    const Maybe& shift_ih, const Maybe& batch_sizes, bool reverse, bool joint, bool relu,
    bool centered, double eps, std::optional<at::ScalarType> storage,
    std::optional<std::string_view> narrow, bool keep, const Maybe& cuts, const Maybe& reset_h, const Maybe& fresh_h, const Maybe& seen_h, double zoneout,
    double variational_dropout) {
  const Tensor weight = weight_.contiguous(), gain = or_ones(gain_, weight.size(0), x);
  const Steps steps(x, batch_sizes, reverse);
  const Products products = products_for(storage, narrow);
  const int64_t hidden = weight.size(1), kept = keep ? steps.total : 0;
  const InputTensors inputs(x, weight_ih, bias_ih, gain_ih, shift_ih, joint, hidden);
  const Tensor bias = or_zeros(bias_, hidden, x);
  Tensor output = for_all_rows(rows_of(x, hidden), x);
  Tensor h_n = h_0.clone(at::MemoryFormat::Contiguous);
  const ResetTensors resets(cuts, reset_h, h_0, false);
  const HiddenNoiseTensors noise(fresh_h, zoneout, seen_h, variational_dropout, h_0);
  const bool rounded = storage == at::kBFloat16;
  const Kept side(steps, true, hidden, x, keep, rounded);
  const Kept projected(steps, inputs.apart(), hidden, x, keep, rounded);
  Tensor stats = empty({kept, 2}, x.scalar_type());
  Tensor input_stats = inputs.moments(kept, 1);
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "ln_rnn", [&] {
    using T = scalar_t;
    const GateNorms of_input{{centered, eps}, {1}, hidden};
    const GateNorms norms{{centered, eps}, {1}, hidden, gain_.has_value()};
    const Weight<T> w({weight.const_data_ptr<T>(), hidden, hidden, true}, steps.count, products);
    const Weight<T> w_ih = inputs.packed<T>(true, steps.count, products);
    const RnnLayer<T> layer{
        norms, inputs.with<T>(w_ih, projected.data<T>(), input_stats, of_input), relu,
        gain.const_data_ptr<T>(), bias.const_data_ptr<T>()};
    T* const state = h_n.data_ptr<T>();
    auto* saved = reinterpret_cast<Moments<T>*>(stats.data_ptr<T>());
    const Run<T> run{
        w, hidden, hidden, layer.in, state, output.data_ptr<T>(), side, projected, resets.with<T>(),
        noise.with<T>(), storage};
    run_forward(steps, run, [&](int64_t t, int64_t low, int64_t high, const T* v, const T* z) {
      Moments<T> m, of_z;
      for (int64_t s = low; s < high; s++, v += hidden, z += joint ? 0 : hidden) {
        const int64_t row = steps.first[t] + s;
        T* h = state + s * hidden;
        norms.measure(v, &m);
        if (!joint) layer.in.measure(row, z, &of_z);
        if (keep) saved[row] = m;
        sweep<T>(hidden, [&](int64_t i, auto lanes) {
          lanes.store(h + i, activated(lanes, i, layer, v, z, &m, &of_z));
        });
      }
    });
  });
  return {output, h_n, side.result(), projected.result(), input_stats, stats};
}

Tensors<10> ln_rnn_backward(
    const Tensor& d_output_, const Tensor& d_h_n, const Tensor& x, const Tensor& h_0_,
    const Tensor& weight_, const Maybe& gain_, const Maybe& bias_, const Maybe& weight_ih,
    const Maybe& bias_ih, const Maybe& gain_ih, const Maybe& shift_ih, const Tensor& output,
    const Tensor&, const Tensor& side, const Tensor& projected, const Tensor& input_stats,
    const Tensor& stats,
    const Maybe& batch_sizes, bool reverse, bool joint, bool relu, bool centered, double eps,
    std::optional<at::ScalarType> storage, std::optional<std::string_view> narrow, std::array<bool, 3> needed,
    const Maybe& cuts, const Maybe& reset_h, const Maybe& fresh_h, const Maybe& seen_h, double zoneout,
    double variational_dropout) {
  const Tensor d_output = d_output_.contiguous(), h_0 = h_0_.contiguous();
  const Tensor weight = weight_.contiguous(), gain = or_ones(gain_, weight.size(0), x);
  const Steps steps(x, batch_sizes, reverse);
  const Products products = products_for(storage, narrow);
  const int64_t hidden = weight.size(1);
  const InputTensors inputs(x, weight_ih, bias_ih, gain_ih, shift_ih, joint, hidden);
  const Tensor bias = or_zeros(bias_, hidden, x);
  InputGradients d(inputs, needed[0], needed[2]);
  Tensor d_h_0 = d_h_n.clone(at::MemoryFormat::Contiguous);
  const ResetTensors resets(cuts, reset_h, h_0, true);
  const HiddenNoiseTensors noise(fresh_h, zoneout, seen_h, variational_dropout, h_0);
  const Tensor memory = empty({steps.batch, hidden}, x.scalar_type());
  Tensor d_weight = zeros_if(needed[1], {hidden, hidden}, x);
  Tensor d_affine = zeros({4, hidden}, x.scalar_type());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "ln_rnn_backward", [&] {
    using T = scalar_t;
    const GateNorms of_input{{centered, eps}, {1}, hidden};
    const GateNorms norms{{centered, eps}, {1}, hidden, gain_.has_value()};
    const Weight<T> w({weight.const_data_ptr<T>(), hidden, hidden}, steps.count, products);
    const Weight<T> w_ih = inputs.packed<T>(false, steps.count, products);
    const RnnLayer<T> layer{
        norms, inputs.with<T>(w_ih, nullptr, input_stats, of_input), relu, gain.const_data_ptr<T>(),
        bias.const_data_ptr<T>()};
    const T* hs = output.const_data_ptr<T>();
    const auto* saved = reinterpret_cast<const Moments<T>*>(stats.const_data_ptr<T>());
    const Backward<T> to{
        w,
        hidden,
        hidden,
        h_0.const_data_ptr<T>(),
        hs,
        d_output.const_data_ptr<T>(),
        resets.with<T>(),
        noise.with<T>(),
        storage,
        side,
        projected,
        d_h_0.data_ptr<T>(),
        false,
        data_or_null<T>(d_weight),
        layer.in,
        data_or_null<T>(d.x),
        data_or_null<T>(d.weight),
        products,
        d_affine.data_ptr<T>(),
        4 * hidden};
    const auto step = [&](T* sums, int64_t t, int64_t low, int64_t high, const T* v, const T* z, T* d_v,
                          T* d_z, int64_t) {
      const int64_t next = joint ? 0 : hidden;
      for (int64_t s = low; s < high; s++, v += hidden, z += next, d_v += hidden, d_z += hidden) {
        const int64_t row = steps.first[t] + s;
        const T *d_h = to.d_state + s * hidden, *d_out = to.above(row), *y = hs + row * hidden;
        if (to.noise.zoneout.acts()) {  // what came out is not what the step made
          T* const made = memory.data_ptr<T>() + low * hidden;
          sweep<T>(hidden, [&](int64_t i, auto lanes) {
            lanes.store(made + i, activated(lanes, i, layer, v, z, saved + row, layer.in.measured(row)));
          });
          y = made;
        }
        sweep<T>(hidden, [&](int64_t i, auto lanes) {
          const Vec<T> one(T(1)), zero(T(0)), h = lanes.load(y + i);
          const Vec<T> d = lanes.load(d_h + i) + lanes.load(d_out + i);
          lanes.store(d_z + i, relu ? Vec<T>::blendv(zero, d, h > zero) : d * (one - h * h));
        });
        T* const before = sums + 3 * hidden;
        const Sums<T> v_sums{sums, sums + hidden, joint ? before : nullptr};
        norms.backward(d_z, d_v, v, saved + row, layer.gain, v_sums);
        if (!joint) {
          layer.in.backward(d_z, z, layer.in.measured(row), {sums + 2 * hidden, nullptr, before});
        }
      }
    };
    run_backward(steps, to, step, [](int64_t) {});
  });
  const std::vector<Tensor> s = d_affine.unbind();
  return {d.x,         d_h_0,        d_weight,     s[0].clone(), s[1].clone(), d.weight,
          s[3].clone(), s[2].clone(), s[1].clone(), resets.d_state};
}

}  // namespace lnrnn
