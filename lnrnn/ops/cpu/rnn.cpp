// The Elman RNN of lnrnn.ops.reference.ln_rnn: h' = act(z), with u = gain * N(v) + bias and
// joint: v = x + W h, z = u; separate: v = W h, z = x + u. `side` holds v, (N, H).
#include <ATen/Dispatch.h>
#include <torch/library.h>

#include "norm.hpp"
#include "sequence.hpp"

namespace lnrnn {
namespace {

using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor>;
using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

Forward ln_rnn(
    const Tensor& x_, const Tensor& h_0, const Tensor& weight_, const Tensor& gain_,
    const Maybe& bias_, const Maybe& batch_sizes, bool reverse, bool joint, bool relu,
    bool centered, double eps, bool keep) {
  const Tensor x = x_.contiguous(), weight = weight_.contiguous(), gain = gain_.contiguous();
  const Steps steps(x, batch_sizes, reverse);
  const int64_t hidden = weight.size(1), kept = keep ? steps.total : steps.batch;
  const Tensor bias = or_zeros(bias_, hidden, x);
  Tensor output = at::empty(rows_of(x, hidden), x.options());
  Tensor h_n = h_0.clone(at::MemoryFormat::Contiguous);
  Tensor side = at::empty({kept, hidden}, x.options());
  Tensor stats = at::empty({keep ? kept : 0, 2}, x.options());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "ln_rnn", [&] {
    using T = scalar_t;
    const Norm norm{centered, eps};
    const T *xs = x.const_data_ptr<T>(), *g = gain.const_data_ptr<T>();
    const T* b = bias.const_data_ptr<T>();
    T *hs = output.data_ptr<T>(), *state = h_n.data_ptr<T>(), *sides = side.data_ptr<T>();
    auto* saved = reinterpret_cast<Moments<T>*>(stats.data_ptr<T>());
    const Matrix<T> w{weight.const_data_ptr<T>(), hidden, hidden};
    run_forward<T>(steps, w, state, sides, keep, [&](int64_t t, int64_t low, int64_t high, T* v) {
      for (int64_t s = low; s < high; s++, v += hidden) {
        const int64_t row = steps.first[t] + s;
        const T* input = xs + row * hidden;
        T *h = state + s * hidden, *out = hs + row * hidden;
        if (joint) {
          sweep<T>(hidden, [&](int64_t i, auto lanes) {
            lanes.store(v + i, lanes.load(v + i) + lanes.load(input + i));
          });
        }
        const Moments<T> m = moments(v, hidden, norm);
        if (keep) saved[row] = m;
        sweep<T>(hidden, [&](int64_t i, auto lanes) {
          Vec<T> z = affine(lanes, v, &m, 0, i, g, b);
          if (!joint) z = z + lanes.load(input + i);
          // A comparison, not a maximum: NaN has to stay NaN.
          const Vec<T> zero(T(0)), y = relu ? Vec<T>::blendv(z, zero, z < zero) : tanh<T>(z);
          lanes.store(h + i, y);
          lanes.store(out + i, y);
        });
      }
    });
  });
  if (!keep) side = at::empty({0, hidden}, x.options());
  return {output, h_n, side, stats};
}

Gradients ln_rnn_backward(
    const Tensor& d_output_, const Tensor& d_h_n, const Tensor& x, const Tensor& h_0_,
    const Tensor& weight_, const Tensor& gain_, const Maybe&, const Tensor& output,
    const Tensor&, const Tensor& side, const Tensor& stats, const Maybe& batch_sizes, bool reverse,
    bool joint, bool relu, bool centered, double eps) {
  const Tensor d_output = d_output_.contiguous(), h_0 = h_0_.contiguous();
  const Tensor weight = weight_.contiguous(), gain = gain_.contiguous();
  const Steps steps(x, batch_sizes, reverse);
  const int64_t hidden = weight.size(1);
  Tensor d_x = at::empty(x.sizes(), x.options());
  Tensor d_h_0 = d_h_n.clone(at::MemoryFormat::Contiguous);
  Tensor d_weight = at::zeros({hidden, hidden}, x.options());
  Tensor d_affine = at::zeros({2, hidden}, x.options());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "ln_rnn_backward", [&] {
    using T = scalar_t;
    const Norm norm{centered, eps};
    const T *hs = output.const_data_ptr<T>(), *d_hs = d_output.const_data_ptr<T>();
    const T *vs = side.const_data_ptr<T>(), *g = gain.const_data_ptr<T>();
    const auto* saved = reinterpret_cast<const Moments<T>*>(stats.const_data_ptr<T>());
    T *d_xs = d_x.data_ptr<T>(), *d_state = d_h_0.data_ptr<T>();
    const Backward<T> to{
        {weight.const_data_ptr<T>(), hidden, hidden},
        h_0.const_data_ptr<T>(),
        hs,
        d_state,
        joint ? d_xs : nullptr,
        d_weight.data_ptr<T>(),
        d_affine.data_ptr<T>(),
        2 * hidden,
        false};
    const auto step = [&](T* sums, int64_t t, int64_t low, int64_t high, T* d_v, int64_t) {
      for (int64_t s = low; s < high; s++, d_v += hidden) {
        const int64_t row = steps.first[t] + s, at = row * hidden;
        const T* d_h = d_state + s * hidden;
        T* d_u = d_xs + at;  // the gradient of z is that of u and, if apart, of x
        sweep<T>(hidden, [&](int64_t i, auto lanes) {
          const Vec<T> one(T(1)), zero(T(0)), h = lanes.load(hs + at + i);
          const Vec<T> d = lanes.load(d_h + i) + lanes.load(d_hs + at + i);
          lanes.store(
              d_u + i, relu ? Vec<T>::blendv(zero, d, h > zero) : d * (one - h * h));
        });
        norm_backward(d_u, d_v, vs + at, saved[row], hidden, norm, g, sums, sums + hidden);
      }
    };
    run_backward<T>(steps, to, step, [](int64_t) {});
  });
  return {d_x, d_h_0, d_weight, d_affine[0].clone(), d_affine[1].clone()};
}

TORCH_LIBRARY_IMPL(lnrnn, CPU, m) {
  m.impl("ln_rnn", ln_rnn);
  m.impl("ln_rnn_backward", ln_rnn_backward);
}

}  // namespace
}  // namespace lnrnn
