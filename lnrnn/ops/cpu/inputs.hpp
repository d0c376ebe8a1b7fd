// The input side of a recurrence: what x becomes before a step adds W h to it.
//
// x may have been projected before; else it is projected here, some rows at a time, shortly before the
// steps that read them: z = W x + bias. A joint norm covers z + W h. Otherwise z has a norm of its own,
// gain * N(z) + shift, or none.
#pragma once

#include <optional>
#include <string_view>

#include "norm.hpp"
#include "product.hpp"

namespace lnrnn {

// The vector, or zeros where there is none.
inline Tensor or_zeros(const Maybe& vector, int64_t width, const Tensor& like) {
  return vector ? vector->contiguous() : zeros({width}, like.scalar_type());
}

// The vector, or ones where there is none.
inline Tensor or_ones(const Maybe& vector, int64_t width, const Tensor& like) {
  return vector ? vector->contiguous() : ones({width}, like.scalar_type());
}

// What a run reads of the input side; G gate entries, I input features.
template <typename T>
struct Inputs {
  const T* x;                 // (N, G), or (N, I) to be projected
  const Weight<T>* weight;    // forward I to G, backward G to I; null where x has been projected
  int64_t features;           // I, or G
  const T* bias;              // (G), or null
  bool joint, normed;
  T* projected;               // z of every row, or of a few steps'; unused backward, where x is z, or joint
  Moments<T>* moments;        // (N, gates), where they are kept, else null
  GateNorms norms;
  const T *gain, *shift;      // (G); ones and zeros without a norm

  // The moments of a row of z, which go to `out`, and are kept if they are to be. Without a norm they
  // are those that change nothing.
  void measure(int64_t row, const T* z, Moments<T>* out) const {
    if (!normed) {
      std::fill(out, out + norms.gates(), Moments<T>{T(0), T(1)});
      return;
    }
    norms.measure(z, out);
    if (moments != nullptr) std::copy(out, out + norms.gates(), moments + row * norms.gates());
  }

  // The moments that were kept.
  const Moments<T>* measured(int64_t row) const {
    static constexpr Moments<T> none[4]{{T(0), T(1)}, {T(0), T(1)}, {T(0), T(1)}, {T(0), T(1)}};
    return normed ? moments + row * norms.gates() : none;
  }

  // Turns the gradient of gain * N(z) + shift into that of z.
  void backward(T* d, const T* z, const Moments<T>* m, Sums<T> sums) const {
    if (normed) norms.backward(d, d, z, m, gain, sums);
    else if (weight != nullptr) {
      sweep<T>(norms.gates() * norms.hidden, [&](int64_t i, auto lanes) {
        lanes.store(sums.before + i, lanes.load(sums.before + i) + lanes.load(d + i));
      });
    }
  }
};

// The tensors of the input side.
struct InputTensors {
  Tensor x, weight, bias, gain, shift;
  bool joint, projects, normed;
  int64_t width;  // G

  InputTensors(
      const Tensor& x_, const Maybe& weight_, const Maybe& bias_, const Maybe& gain_,
      const Maybe& shift_, bool joint_, int64_t width_)
      : x(x_.contiguous()),
        bias(bias_ ? bias_->contiguous() : Tensor()),
        gain(or_ones(gain_, width_, x)),
        shift(or_zeros(shift_, width_, x)),
        joint(joint_),
        projects(weight_.has_value()),
        normed(gain_.has_value()),
        width(width_) {
    if (projects) weight = weight_->contiguous();
  }

  int64_t features() const { return projects ? weight.size(1) : width; }

  // Whether z has rows of its own: not x's, and not part of a joint sum's.
  bool apart() const { return projects && !joint; }

  // The weight from I to G, for the forward, or from G to I.
  template <typename T>
  Weight<T> packed(bool forward, int64_t uses, Products products) const {
    if (!projects) return {};
    return {{weight.const_data_ptr<T>(), width, features(), forward}, uses, products};
  }

  // What is kept of a norm of its own, of each row and gate.
  Tensor moments(int64_t rows, int64_t gates) const {
    return empty({normed ? rows : 0, 2 * gates}, x.scalar_type());
  }

  template <typename T>
  Inputs<T> with(
      const Weight<T>& packed, T* rows, const Tensor& stats, const GateNorms& norms) const {
    return {x.const_data_ptr<T>(),
            projects ? &packed : nullptr,
            features(),
            bias.defined() ? bias.const_data_ptr<T>() : nullptr,
            joint,
            normed,
            rows,
            stats.numel() ? reinterpret_cast<Moments<T>*>(stats.data_ptr<T>()) : nullptr,
            norms,
            gain.const_data_ptr<T>(),
            shift.const_data_ptr<T>()};
  }
};

// Zeros to add a gradient up in, or nothing where nobody wants it.
inline Tensor zeros_if(bool wanted, at::IntArrayRef sizes, const Tensor& like) {
  return wanted ? zeros(sizes, like.scalar_type()) : like.new_empty({0});
}

template <typename T>
inline T* data_or_null(const Tensor& gradient) {
  return gradient.numel() ? gradient.data_ptr<T>() : nullptr;
}

// Gradients of the large tensors of the input side; empty where nobody wants them.
struct InputGradients {
  Tensor x, weight;

  InputGradients(const InputTensors& to, bool of_x, bool of_weight)
      : x(of_x || !to.projects ? for_all_rows(to.x.sizes(), to.x) : to.x.new_empty({0})),
        weight(zeros_if(of_weight && to.projects, {to.width, to.features()}, to.x)) {}
};

}  // namespace lnrnn
