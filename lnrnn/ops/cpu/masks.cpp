// The masks of lnrnn.ops.noise.keep_mask, bit for bit: Philox4x32-10 for the counters (unit / 4, row,
// step, purpose), a unit being False where its word is below the probability times 2^32.
//
// Dimensions: N masks, U units of each.
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(CPU_CAPABILITY_AVX512) || defined(CPU_CAPABILITY_AVX2)
#include <immintrin.h>
#endif

#include "kernels.hpp"
// After tensors, whose parts it takes for granted.
#include <ATen/ops/broadcast_tensors_ops.h>

namespace lnrnn {
namespace {

constexpr int64_t kGroups = 16;      // of four units, which are drawn together
constexpr int64_t kGrain = 1 << 15;  // units that are worth a thread: some ten microseconds

// Words of 32 bits, each the lower half of a lane of 64: what the upper one holds is never read.
#ifdef CPU_CAPABILITY_AVX512
constexpr int64_t kBytes = 64;
#elif defined(CPU_CAPABILITY_AVX2)
constexpr int64_t kBytes = 32;
#else
constexpr int64_t kBytes = 16;
#endif
typedef uint64_t Lanes __attribute__((vector_size(kBytes)));
constexpr int64_t kParts = kGroups * 8 / kBytes, kLanes = kBytes / 8;

// The products of words, of which compilers make multiplications of 64 bits by themselves.
inline Lanes multiply(Lanes words, uint32_t factor) {
#ifdef CPU_CAPABILITY_AVX512
  return reinterpret_cast<Lanes>(
      _mm512_mul_epu32(reinterpret_cast<__m512i>(words), _mm512_set1_epi64(factor)));
#elif defined(CPU_CAPABILITY_AVX2)
  return reinterpret_cast<Lanes>(
      _mm256_mul_epu32(reinterpret_cast<__m256i>(words), _mm256_set1_epi64x(factor)));
#else
  return (words & 0xFFFFFFFFu) * uint64_t{factor};
#endif
}

// The four words of neighboring groups, the first of which is `group`, as lower halves.
inline void draw(
    uint32_t group, uint32_t row, uint32_t step, uint32_t purpose, uint64_t seed,
    uint64_t (&words)[4][kGroups]) {
  Lanes c[4][kParts];
  for (int64_t p = 0; p < kParts; p++) {
    for (int64_t i = 0; i < kLanes; i++) c[0][p][i] = group + static_cast<uint64_t>(p * kLanes + i);
    c[1][p] = Lanes{} + uint64_t{row};
    c[2][p] = Lanes{} + uint64_t{step};
    c[3][p] = Lanes{} + uint64_t{purpose};
  }
  uint32_t key_0 = static_cast<uint32_t>(seed), key_1 = static_cast<uint32_t>(seed >> 32);
#pragma GCC unroll 10
  for (int round = 0; round < 10; round++, key_0 += 0x9E3779B9u, key_1 += 0xBB67AE85u) {
#pragma GCC unroll 8
    for (int64_t p = 0; p < kParts; p++) {
      const Lanes a = multiply(c[0][p], 0xD2511F53u), b = multiply(c[2][p], 0xCD9E8D57u);
      c[0][p] = (b >> 32) ^ c[1][p] ^ uint64_t{key_0};
      c[1][p] = b;
      c[2][p] = (a >> 32) ^ c[3][p] ^ uint64_t{key_1};
      c[3][p] = a;
    }
  }
  std::memcpy(words, c, sizeof words);
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
    uint64_t words[4][kGroups];
    uint32_t above[kGroups];  // four units each, a byte a unit
    for (int64_t n = low; n < high; n++) {
      bool* const to = kept + n * units;
      for (int64_t unit = 0; unit < units; unit += 4 * kGroups) {
        draw(
            static_cast<uint32_t>(unit / 4), static_cast<uint32_t>(rows[n]),
            static_cast<uint32_t>(steps[n]), static_cast<uint32_t>(purpose),
            static_cast<uint64_t>(seed), words);
        for (int64_t i = 0; i < kGroups; i++) {
          above[i] = 0;
          for (int64_t w = 0; w < 4; w++) {
            above[i] |= uint32_t{static_cast<uint32_t>(words[w][i]) >= below} << (8 * w);
          }
        }
        std::memcpy(to + unit, above, std::min(units - unit, 4 * kGroups));
      }
    }
  });
  return mask;
}

}  // namespace lnrnn
