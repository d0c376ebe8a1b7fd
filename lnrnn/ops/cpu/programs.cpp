// What compiles slowly, since torch's headers for it do: the operators' registration, and torch's own
// operators. A C++ program that runs a saved model needs some of it that Python brings along
// otherwise: the operators' declarations, and torch's own recurrence as an operator
// (ops/torch_layers.py).

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/gru.h>
#include <ATen/ops/lstm.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/rnn_relu.h>
#include <ATen/ops/rnn_tanh.h>
#include <torch/library.h>

#include <optional>
#include <string>
#include <tuple>

#include "kernels.hpp"
#include "matrix.hpp"

namespace lnrnn {

template <typename T>
void multiply_by_torch(T* out, Matrix<T> a, Matrix<T> b, bool keep) {
  const auto view = [](const T* data, int64_t r, int64_t c) {
    return at::from_blob(const_cast<T*>(data), {r, c}, c10::CppTypeToScalarType<T>::value);
  };
  Tensor result = view(out, a.height(), b.width()), left = view(a.data, a.rows, a.columns);
  Tensor right = view(b.data, b.rows, b.columns);
  left = a.transposed ? left.t() : left;
  right = b.transposed ? right.t() : right;
  if (keep) result.add_(left.mm(right));
  else at::mm_out(result, left, right);
}

template void multiply_by_torch(float*, Matrix<float>, Matrix<float>, bool);
template void multiply_by_torch(double*, Matrix<double>, Matrix<double>, bool);

namespace {

// Written from Python's declarations when the library is built.
const char* const kSchemas[] = {
#include "schemas.inc"
};

std::tuple<Tensor, Tensor, Tensor> torch_layer(const Tensor& x, const Tensor& h_0,
                                               const std::optional<Tensor>& c_0, at::TensorList weights,
                                               c10::string_view mode, bool bias) {
  const at::NoGradGuard guard;
  const bool both = h_0.size(0) == 2;
  if (mode == "LSTM") return at::lstm(x, {h_0, *c_0}, weights, bias, 1, 0.0, false, both, false);
  const auto recurrence = [&] {
    if (mode == "GRU") return at::gru(x, h_0, weights, bias, 1, 0.0, false, both, false);
    if (mode == "RNN_TANH") return at::rnn_tanh(x, h_0, weights, bias, 1, 0.0, false, both, false);
    return at::rnn_relu(x, h_0, weights, bias, 1, 0.0, false, both, false);
  };
  const auto [output, h_n] = recurrence();
  return std::make_tuple(output, h_n, empty({0}, x.scalar_type()));
}

TORCH_LIBRARY_FRAGMENT(lnrnn, m) {
  for (const std::string schema : kSchemas) {
    const std::string name = "lnrnn::" + schema.substr(0, schema.find('('));
    if (!c10::Dispatcher::singleton().findSchema({name, ""})) m.def(schema.c_str());
  }
}

TORCH_LIBRARY_IMPL(lnrnn, CPU, m) {
  m.impl("ln_rnn", ln_rnn);
  m.impl("ln_rnn_backward", ln_rnn_backward);
  m.impl("ln_lstm", ln_lstm);
  m.impl("ln_lstm_backward", ln_lstm_backward);
  m.impl("ln_gru", ln_gru);
  m.impl("ln_gru_backward", ln_gru_backward);
  m.impl("keep_mask", keep_mask);
  m.impl("torch_layer", torch_layer);
}

}  // namespace
}  // namespace lnrnn
