// The operators' functions, a file for each cell and one for masks. They are declared apart from their registration, whose
// headers take longer to compile than a cell.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string_view>
#include <tuple>

#include "tensors.hpp"

namespace lnrnn {

// std::tuple<Tensor, Tensor, ...>, as many as N.
template <std::size_t N>
using Tensors = decltype(std::tuple_cat(std::array<Tensor, N>()));

Tensors<6> ln_rnn(
    const Tensor& x, const Tensor& h_0, const Tensor& weight, const Maybe& gain,
    const Maybe& bias, const Maybe& weight_ih, const Maybe& bias_ih, const Maybe& gain_ih,
    const Maybe& shift_ih, const Maybe& batch_sizes, bool reverse, bool joint, bool relu,
    bool centered, double eps, std::optional<at::ScalarType> storage, std::optional<std::string_view> narrow,
    bool keep, const Maybe& cuts, const Maybe& reset_h, const Maybe& fresh_h, const Maybe& seen_h,
    double zoneout, double variational_dropout);

Tensors<10> ln_rnn_backward(
    const Tensor& d_output, const Tensor& d_h_n, const Tensor& x, const Tensor& h_0,
    const Tensor& weight, const Maybe& gain, const Maybe& bias, const Maybe& weight_ih,
    const Maybe& bias_ih, const Maybe& gain_ih, const Maybe& shift_ih, const Tensor& output,
    const Tensor&, const Tensor& side, const Tensor& projected, const Tensor& input_stats,
    const Tensor& stats, const Maybe& batch_sizes, bool reverse, bool joint, bool relu,
    bool centered, double eps, std::optional<at::ScalarType> storage, std::optional<std::string_view> narrow,
    std::array<bool, 3> needed, const Maybe& cuts, const Maybe& reset_h, const Maybe& fresh_h,
    const Maybe& seen_h, double zoneout, double variational_dropout);

Tensors<8> ln_lstm(
    const Tensor& x, const Tensor& h_0, const Tensor& c_0, const Tensor& weight,
    const Maybe& gain, const Maybe& bias, const Maybe& gain_c, const Maybe& shift_c,
    const Maybe& weight_hr, const Maybe& weight_ih, const Maybe& bias_ih, const Maybe& gain_ih,
    const Maybe& shift_ih, const Maybe& batch_sizes, bool reverse, bool joint,
    at::IntArrayRef spans, std::optional<std::string_view> cell, bool centered, double eps,
    std::optional<at::ScalarType> storage, std::optional<std::string_view> narrow, bool keep,
    const Maybe& cuts, const Maybe& reset_h, const Maybe& reset_c, const Maybe& fresh_h,
    const Maybe& fresh_c, const Maybe& kept_candidate, const Maybe& seen_h, double zoneout,
    double zoneout_c, double recurrent_dropout, double variational_dropout);

Tensors<15> ln_lstm_backward(
    const Tensor& d_output, const Tensor& d_h_n, const Tensor& d_c_n, const Tensor& x,
    const Tensor& h_0, const Tensor& c_0, const Tensor& weight, const Maybe& gain,
    const Maybe& bias, const Maybe& gain_c, const Maybe& shift_c, const Maybe& weight_hr,
    const Maybe& weight_ih, const Maybe& bias_ih, const Maybe& gain_ih, const Maybe& shift_ih,
    const Tensor& output, const Tensor&, const Tensor&, const Tensor& side,
    const Tensor& projected, const Tensor& input_stats, const Tensor& cells, const Tensor& stats,
    const Maybe& batch_sizes, bool reverse, bool joint, at::IntArrayRef spans,
    std::optional<std::string_view> cell, bool centered, double eps,
    std::optional<at::ScalarType> storage, std::optional<std::string_view> narrow, std::array<bool, 3> needed,
    const Maybe& cuts, const Maybe& reset_h, const Maybe& reset_c, const Maybe& fresh_h,
    const Maybe& fresh_c, const Maybe& kept_candidate, const Maybe& seen_h, double zoneout,
    double zoneout_c, double recurrent_dropout, double variational_dropout);

Tensors<6> ln_gru(
    const Tensor& x, const Tensor& h_0, const Tensor& weight, const Maybe& gain,
    const Maybe& bias, const Maybe& weight_ih, const Maybe& bias_ih, const Maybe& gain_ih,
    const Maybe& shift_ih, const Maybe& batch_sizes, bool reverse, at::IntArrayRef spans,
    bool centered, double eps, std::optional<at::ScalarType> storage, std::optional<std::string_view> narrow,
    bool keep, const Maybe& cuts, const Maybe& reset_h, const Maybe& fresh_h,
    const Maybe& kept_candidate, const Maybe& seen_h, double zoneout, double recurrent_dropout,
    double variational_dropout);

Tensors<10> ln_gru_backward(
    const Tensor& d_output, const Tensor& d_h_n, const Tensor& x, const Tensor& h_0,
    const Tensor& weight, const Maybe& gain, const Maybe& bias, const Maybe& weight_ih,
    const Maybe& bias_ih, const Maybe& gain_ih, const Maybe& shift_ih, const Tensor& output,
    const Tensor&, const Tensor& side, const Tensor& projected, const Tensor& input_stats,
    const Tensor& stats, const Maybe& batch_sizes, bool reverse, at::IntArrayRef spans,
    bool centered, double eps, std::optional<at::ScalarType> storage, std::optional<std::string_view> narrow,
    std::array<bool, 3> needed, const Maybe& cuts, const Maybe& reset_h, const Maybe& fresh_h,
    const Maybe& kept_candidate, const Maybe& seen_h, double zoneout, double recurrent_dropout,
    double variational_dropout);

Tensor keep_mask(
    double probability, int64_t seed, int64_t purpose, const Tensor& step, const Tensor& row,
    int64_t units);

}  // namespace lnrnn
