// Resets inside a sequence: after some rows it is not the state they leave that the next step finds,
// but the reset state. Such a row is cut. The last row of a sequence never is.
#pragma once

#include <cstring>

#include "inputs.hpp"

namespace lnrnn {

// What a run reads of the resets of one state, hidden or cell; W values wide.
template <typename T>
struct Resets {
  const bool* cuts;  // (N), or null where there are none
  const T* state;    // (B, W), what a cut row's is replaced by
  T* d_state;        // (B, W), its gradient, or null where nobody wants it
  int64_t width;

  bool any() const { return cuts != nullptr; }
  bool at(int64_t row) const { return any() && cuts[row]; }

  // Forward: after a row, which has left its state in a sequence's place of `states`.
  void replace(int64_t row, int64_t sequence, T* states) const {
    if (!at(row)) return;
    std::memcpy(states + sequence * width, state + sequence * width, width * sizeof(T));
  }

  // Backward: before a row, whose state has its gradient in a sequence's place of `d_states`.
  void take_back(int64_t row, int64_t sequence, T* d_states) const {
    if (!at(row)) return;
    T* const d = d_states + sequence * width;
    if (d_state != nullptr) {
      T* const sum = d_state + sequence * width;
      for (int64_t i = 0; i < width; i++) sum[i] += d[i];
    }
    std::memset(d, 0, width * sizeof(T));
  }
};

// The tensors of the resets of one state.
struct ResetTensors {
  Tensor cuts, state, d_state;  // undefined where there are none; d_state is empty if unwanted
  int64_t width;

  // `initial`, (B, W), is the state before the first step, and is shaped as the reset state.
  ResetTensors(const Maybe& cuts_, const Maybe& state_, const Tensor& initial, bool backward)
      : d_state(backward && cuts_ && state_ ? zeros(initial.sizes(), initial.scalar_type())
                                            : initial.new_empty({0})),
        width(initial.size(1)) {
    if (!cuts_) return;
    cuts = cuts_->contiguous();
    state = state_ ? state_->contiguous() : zeros(initial.sizes(), initial.scalar_type());
  }

  template <typename T>
  Resets<T> with() const {
    if (!cuts.defined()) return {nullptr, nullptr, nullptr, width};
    T* const d = d_state.numel() ? d_state.data_ptr<T>() : nullptr;
    return {cuts.const_data_ptr<bool>(), state.const_data_ptr<T>(), d, width};
  }
};

}  // namespace lnrnn
