// What a C++ program needs that runs a saved model, and that Python brings along otherwise: the
// operators' declarations, and torch's own recurrence as an operator (ops/torch_layers.py).

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <optional>
#include <string>
#include <tuple>

namespace lnrnn {
namespace {

using at::Tensor;

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
  return std::make_tuple(output, h_n, at::empty({0}, x.options()));
}

TORCH_LIBRARY_FRAGMENT(lnrnn, m) {
  for (const std::string schema : kSchemas) {
    const std::string name = "lnrnn::" + schema.substr(0, schema.find('('));
    if (!c10::Dispatcher::singleton().findSchema({name, ""})) m.def(schema.c_str());
  }
}

TORCH_LIBRARY_IMPL(lnrnn, CPU, m) { m.impl("torch_layer", torch_layer); }

}  // namespace
}  // namespace lnrnn
