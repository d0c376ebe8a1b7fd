// The masks of lnrnn.ops.noise.keep_mask, bit for bit: Philox4x32-10 for the counters (unit / 4, row,
// step, purpose), a unit being False where its word is below the probability times 2^32.
//
// Dimensions: N masks, U units of each.
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels.hpp"
// After tensors, whose parts it takes for granted.
#include <ATen/ops/broadcast_tensors_ops.h>

namespace lnrnn {
namespace {

constexpr int64_t kLanes = 16;       // groups of four units that are drawn together
constexpr int64_t kGrain = 1 << 14;  // units that are worth a thread: some ten microseconds

// The four words of kLanes neighboring groups, the first of which is `group`.
inline void draw(
    uint32_t group, uint32_t row, uint32_t step, uint32_t purpose, uint64_t seed,
    uint32_t (&words)[4][kLanes]) {
  for (int64_t i = 0; i < kLanes; i++) {
    words[0][i] = group + static_cast<uint32_t>(i);
    words[1][i] = row;
    words[2][i] = step;
    words[3][i] = purpose;
  }
  uint32_t key_0 = static_cast<uint32_t>(seed), key_1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; round++, key_0 += 0x9E3779B9u, key_1 += 0xBB67AE85u) {
    for (int64_t i = 0; i < kLanes; i++) {
      const uint64_t a = uint64_t{0xD2511F53u} * words[0][i], b = uint64_t{0xCD9E8D57u} * words[2][i];
      const uint32_t first = static_cast<uint32_t>(b >> 32) ^ words[1][i] ^ key_0;
      const uint32_t third = static_cast<uint32_t>(a >> 32) ^ words[3][i] ^ key_1;
      words[0][i] = first;
      words[1][i] = static_cast<uint32_t>(b);
      words[2][i] = third;
      words[3][i] = static_cast<uint32_t>(a);
    }
  }
}

}  // namespace

Tensor keep_mask(
    double probability, int64_t seed, int64_t purpose, const Tensor& step_, const Tensor& row_,
    int64_t units) {
  const std::vector<Tensor> counters = at::_ops::broadcast_tensors::call({{step_, row_}});
  const Tensor step = counters[0].contiguous(), row = counters[1].contiguous();
  std::vector<int64_t> shape = step.sizes().vec();
  shape.push_back(units);
  const Tensor mask = empty(shape, at::kBool);
  const auto below = static_cast<uint64_t>(std::nearbyint(std::ldexp(probability, 32)));
  const int64_t *steps = step.const_data_ptr<int64_t>(), *rows = row.const_data_ptr<int64_t>();
  bool* const kept = mask.data_ptr<bool>();
  const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, units));
  at::parallel_for(0, step.numel(), grain, [&](int64_t low, int64_t high) {
    uint32_t words[4][kLanes];
    bool above[4 * kLanes];
    for (int64_t n = low; n < high; n++) {
      bool* const to = kept + n * units;
      for (int64_t unit = 0; unit < units; unit += 4 * kLanes) {
        draw(
            static_cast<uint32_t>(unit / 4), static_cast<uint32_t>(rows[n]),
            static_cast<uint32_t>(steps[n]), static_cast<uint32_t>(purpose),
            static_cast<uint64_t>(seed), words);
        for (int64_t i = 0; i < kLanes; i++) {
          for (int64_t w = 0; w < 4; w++) above[4 * i + w] = words[w][i] >= below;
        }
        std::copy_n(above, std::min(units - unit, 4 * kLanes), to + unit);
      }
    }
  });
  return mask;
}

}  // namespace lnrnn
