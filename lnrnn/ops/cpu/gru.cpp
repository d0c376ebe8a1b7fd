// The GRU of lnrnn.ops.reference.ln_gru, gates in torch's order r, z, n: with u = gain * N(v) + bias
// and v = W h, r and z = sigmoid(x + u), n = tanh(x_n + r u_n), h' = n + z (h - n). `side` holds v,
// (N, 3H); the backward recomputes the gates from it.
#include <ATen/Dispatch.h>
#include <torch/library.h>

#include "norm.hpp"
#include "sequence.hpp"

namespace lnrnn {
namespace {

using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor>;
using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

template <typename T>
struct Gates {
  Vec<T> r, z, n, u_n;
};

// The gates of unit j from a row of x and of v.
template <typename T, class Lanes>
inline Gates<T> gates_of(
    Lanes lanes, int64_t j, int64_t hidden, const T* x, const T* v, const Moments<T>* m,
    const T* gain, const T* bias) {
  const auto u = [&](int64_t q) { return affine(lanes, v, m, q, q * hidden + j, gain, bias); };
  Gates<T> gates;
  gates.r = sigmoid<T>(lanes.load(x + j) + u(0));
  gates.z = sigmoid<T>(lanes.load(x + hidden + j) + u(1));
  gates.u_n = u(2);
  gates.n = tanh<T>(at::vec::fmadd(gates.r, gates.u_n, lanes.load(x + 2 * hidden + j)));
  return gates;
}

Forward ln_gru(
    const Tensor& x_, const Tensor& h_0, const Tensor& weight_, const Tensor& gain_,
    const Maybe& bias_, const Maybe& batch_sizes, bool reverse, at::IntArrayRef spans,
    bool centered, double eps, bool keep) {
  const Tensor x = x_.contiguous(), weight = weight_.contiguous(), gain = gain_.contiguous();
  const Steps steps(x, batch_sizes, reverse);
  const int64_t hidden = weight.size(1), width = 3 * hidden;
  const int64_t kept = keep ? steps.total : steps.batch;
  const Tensor bias = or_zeros(bias_, width, x);
  Tensor output = at::empty(rows_of(x, hidden), x.options());
  Tensor h_n = h_0.clone(at::MemoryFormat::Contiguous);
  Tensor side = at::empty({kept, width}, x.options());
  Tensor stats = at::empty({keep ? kept : 0, 6}, x.options());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "ln_gru", [&] {
    using T = scalar_t;
    const GateNorms norms{{centered, eps}, spans.vec(), hidden};
    const T *xs = x.const_data_ptr<T>(), *g = gain.const_data_ptr<T>();
    const T* b = bias.const_data_ptr<T>();
    T *hs = output.data_ptr<T>(), *state = h_n.data_ptr<T>(), *sides = side.data_ptr<T>();
    T* saved = stats.data_ptr<T>();
    const Matrix<T> w{weight.const_data_ptr<T>(), width, hidden};
    run_forward<T>(steps, w, state, sides, keep, [&](int64_t t, int64_t low, int64_t high, T* v) {
      Moments<T> m[3];
      for (int64_t s = low; s < high; s++, v += width) {
        const int64_t row = steps.first[t] + s;
        const T* input = xs + row * width;
        T *h = state + s * hidden, *out = hs + row * hidden;
        norms.measure(v, m);
        if (keep) std::memcpy(saved + row * 6, m, sizeof m);
        sweep<T>(hidden, [&](int64_t j, auto lanes) {
          const Gates<T> gate = gates_of(lanes, j, hidden, input, v, m, g, b);
          const Vec<T> y = at::vec::fmadd(gate.z, lanes.load(h + j) - gate.n, gate.n);
          lanes.store(h + j, y);
          lanes.store(out + j, y);
        });
      }
    });
  });
  if (!keep) side = at::empty({0, width}, x.options());
  return {output, h_n, side, stats};
}

Gradients ln_gru_backward(
    const Tensor& d_output_, const Tensor& d_h_n, const Tensor& x_, const Tensor& h_0_,
    const Tensor& weight_, const Tensor& gain_, const Maybe& bias_, const Tensor& output,
    const Tensor&, const Tensor& side, const Tensor& stats, const Maybe& batch_sizes, bool reverse,
    at::IntArrayRef spans, bool centered, double eps) {
  const Tensor d_output = d_output_.contiguous(), h_0 = h_0_.contiguous();
  const Tensor x = x_.contiguous(), weight = weight_.contiguous(), gain = gain_.contiguous();
  const Steps steps(x, batch_sizes, reverse);
  const int64_t hidden = weight.size(1), width = 3 * hidden;
  const Tensor bias = or_zeros(bias_, width, x);
  Tensor d_x = at::empty(x.sizes(), x.options());
  Tensor d_h_0 = d_h_n.clone(at::MemoryFormat::Contiguous);
  Tensor d_weight = at::zeros({width, hidden}, x.options());
  Tensor d_affine = at::zeros({2, width}, x.options());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "ln_gru_backward", [&] {
    using T = scalar_t;
    const GateNorms norms{{centered, eps}, spans.vec(), hidden};
    const T *hs = output.const_data_ptr<T>(), *d_hs = d_output.const_data_ptr<T>();
    const T *xs = x.const_data_ptr<T>(), *vs = side.const_data_ptr<T>();
    const T *g = gain.const_data_ptr<T>(), *b = bias.const_data_ptr<T>();
    const auto* saved = reinterpret_cast<const Moments<T>*>(stats.const_data_ptr<T>());
    T *d_xs = d_x.data_ptr<T>(), *d_state = d_h_0.data_ptr<T>();
    const Backward<T> to{
        {weight.const_data_ptr<T>(), width, hidden},
        h_0.const_data_ptr<T>(),
        hs,
        d_state,
        nullptr,
        d_weight.data_ptr<T>(),
        d_affine.data_ptr<T>(),
        2 * width,
        true};
    const auto step = [&](T* sums, int64_t t, int64_t low, int64_t high, T* d_v, int64_t) {
      for (int64_t s = low; s < high; s++, d_v += width) {
        const int64_t row = steps.first[t] + s;
        const T *input = xs + row * width, *v = vs + row * width, *d_out = d_hs + row * hidden;
        const T* before = steps.before(hs, t, s, hidden);
        if (before == nullptr) before = to.h_0 + s * hidden;
        const Moments<T>* m = saved + row * 3;
        T *d_input = d_xs + row * width, *d_h = d_state + s * hidden;
        sweep<T>(hidden, [&](int64_t j, auto lanes) {
          const Vec<T> one(T(1));
          const auto [r, z, n, u_n] = gates_of(lanes, j, hidden, input, v, m, g, b);
          const Vec<T> d = lanes.load(d_h + j) + lanes.load(d_out + j);
          const Vec<T> d_n = d * (one - z) * (one - n * n);
          const Vec<T> d_z = d * (lanes.load(before + j) - n) * z * (one - z);
          const Vec<T> d_r = d_n * u_n * r * (one - r);
          lanes.store(d_h + j, d * z);
          lanes.store(d_input + j, d_r);
          lanes.store(d_input + hidden + j, d_z);
          lanes.store(d_input + 2 * hidden + j, d_n);
          lanes.store(d_v + j, d_r);
          lanes.store(d_v + hidden + j, d_z);
          lanes.store(d_v + 2 * hidden + j, d_n * r);
        });
        norms.backward(d_v, d_v, v, m, g, sums, sums + width);
      }
    };
    run_backward<T>(steps, to, step, [](int64_t) {});
  });
  return {d_x, d_h_0, d_weight, d_affine[0].clone(), d_affine[1].clone()};
}

TORCH_LIBRARY_IMPL(lnrnn, CPU, m) {
  m.impl("ln_gru", ln_gru);
  m.impl("ln_gru_backward", ln_gru_backward);
}

}  // namespace
}  // namespace lnrnn
