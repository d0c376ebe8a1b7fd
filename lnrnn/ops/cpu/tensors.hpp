// Torch's tensors on the CPU, from the few of torch's headers that compile quickly: those of
// ATen/ops and torch/library.h take longer than a cell does.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_ops.h>
#include <ATen/ops/ones_ops.h>
#include <ATen/ops/zeros_ops.h>

#include <optional>

namespace lnrnn {

using at::Tensor;
using Maybe = std::optional<Tensor>;

inline Tensor empty(at::IntArrayRef sizes, at::ScalarType dtype) {
  return at::_ops::empty_memory_format::call(
      c10::fromIntArrayRefSlow(sizes), dtype, std::nullopt, at::kCPU, std::nullopt, std::nullopt);
}

inline Tensor zeros(at::IntArrayRef sizes, at::ScalarType dtype) {
  return at::_ops::zeros::call(
      c10::fromIntArrayRefSlow(sizes), dtype, std::nullopt, at::kCPU, std::nullopt);
}

inline Tensor ones(at::IntArrayRef sizes, at::ScalarType dtype) {
  return at::_ops::ones::call(
      c10::fromIntArrayRefSlow(sizes), dtype, std::nullopt, at::kCPU, std::nullopt);
}

}  // namespace lnrnn
