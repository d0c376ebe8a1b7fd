// Products of bfloat16 with sums in float32 by AMX's tile instructions themselves. What is done with
// tiles is written once, over a few operations on them, which are AMX's, or plain loops that mean the
// same: those are for tests on CPUs without AMX.
//
// A tile has 16 rows of 64 bytes: 16 by 16 sums; 16 rows of a left matrix, 32 entries of each; or 32
// rows of a right matrix, 16 entries of each, in which two rows lie interleaved.
#pragma once

#include <ATen/Parallel.h>
#include <c10/util/BFloat16.h>

#include <algorithm>
#include <cstring>

#include "matrix.hpp"
#include "product.hpp"
#include "rounding.hpp"

#if defined(__x86_64__) && defined(__linux__) && __has_include(<amxbf16intrin.h>)
#define LNRNN_AMX  // the assembler knows it, too: binutils since 2.36, clang's own
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#ifdef CPU_CAPABILITY_AVX512
#include <immintrin.h>
#endif

namespace lnrnn {

constexpr int64_t kTileRows = 16, kTileBytes = 64;
constexpr int64_t kTilePairs = 32;    // entries that a left tile's row has, and rows of a right tile
constexpr int64_t kTileNumbers = 512;  // of bfloat16 in a tile

// Tiles by plain loops. Of the eight, 0 to 3 are for sums, 4 and 5 for the left matrix, 6 and 7 for the
// right.
class PlainTiles {
 public:
  template <int kTile>
  void zero() {
    std::memset(rows_[kTile], 0, sizeof rows_[kTile]);
  }

  // `stride` is in bytes, and may be 0.
  template <int kTile>
  void load(const void* from, int64_t stride) {
    for (int64_t i = 0; i < kTileRows; i++) {
      std::memcpy(rows_[kTile][i], static_cast<const char*>(from) + i * stride, kTileBytes);
    }
  }

  template <int kTile>
  void store(void* to, int64_t stride) const {
    for (int64_t i = 0; i < kTileRows; i++) {
      std::memcpy(static_cast<char*>(to) + i * stride, rows_[kTile][i], kTileBytes);
    }
  }

  // The sums become greater by the product of the left tile and the right.
  template <int kSum, int kLeft, int kRight>
  void multiply() {
    for (int64_t i = 0; i < kTileRows; i++) {
      float sums[kTileRows];
      std::memcpy(sums, rows_[kSum][i], kTileBytes);
      for (int64_t k = 0; k < kTilePairs; k++) {
        const float a = number(kLeft, i, k);
        for (int64_t j = 0; j < kTileRows; j++) sums[j] += a * number(kRight, k / 2, 2 * j + k % 2);
      }
      std::memcpy(rows_[kSum][i], sums, kTileBytes);
    }
  }

 private:
  float number(int tile, int64_t row, int64_t column) const {
    at::BFloat16 value;
    std::memcpy(&value, rows_[tile][row] + 2 * column, sizeof value);
    return value;
  }

  char rows_[8][kTileRows][kTileBytes];
};

#ifdef LNRNN_AMX

// The same by AMX. Compilers' intrinsics do not say what memory they read, of which gcc 12 then leaves
// out stores: these instructions do. The thread has tiles as long as this lives.
class AmxTiles {
 public:
  AmxTiles() {
    struct {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t bytes[16] = {};
      uint8_t rows[16] = {};
    } config;
    static_assert(sizeof config == 64);
    std::fill(config.bytes, config.bytes + 8, static_cast<uint16_t>(kTileBytes));
    std::fill(config.rows, config.rows + 8, static_cast<uint8_t>(kTileRows));
    asm volatile("ldtilecfg %0" ::"m"(config));
  }

  ~AmxTiles() { asm volatile("tilerelease" ::: "memory"); }

  AmxTiles(const AmxTiles&) = delete;
  AmxTiles& operator=(const AmxTiles&) = delete;

  template <int kTile>
  void zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
  }

  template <int kTile>
  void load(const void* from, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(kTile) : "memory");
  }

  template <int kTile>
  void store(void* to, int64_t stride) const {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(kTile) : "memory");
  }

  template <int kSum, int kLeft, int kRight>
  void multiply() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kLeft), "i"(kRight));
  }
};

// Whether the CPU has AMX with bfloat16, the system keeps tiles for a thread, and lets us have them,
// for which Linux wants to be asked once a process.
inline bool has_amx() {
  static const bool has = [] {
    constexpr unsigned bfloat16 = 1u << 22, tile = 1u << 24, saves_state = 1u << 27;
    constexpr unsigned states = 3u << 17;  // the tiles' configuration and data
    constexpr long request = 0x1023, data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & saves_state)) return false;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    if (!(d & bfloat16) || !(d & tile)) return false;
    unsigned low = 0, high = 0;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & states) == states && syscall(SYS_arch_prctl, request, data) == 0;
  }();
  return has;
}

#else

inline bool has_amx() { return false; }

#endif

// Calls body(tiles) with this thread's tiles.
template <class Body>
inline void with_tiles(Products products, Body body) {
#ifdef LNRNN_AMX
  if (products.by == Products::amx) {
    AmxTiles tiles;
    return body(tiles);
  }
#endif
  PlainTiles tiles;
  body(tiles);
}

// What is multiplied to two tiles' height or width: `second` is where the second tile begins, `step` where
// the next ones of the sum do, in numbers; rows of a tile are `stride` bytes apart.
struct TileOperand {
  Parts<const at::BFloat16> parts;
  int64_t second, step, stride;
};

// Up to 2 by 2 tiles of a result: where sums start from, if not from zero, and where they go.
struct TileResult {
  Rows<const float> from;
  Rows<float> to;
  int64_t rows, columns;

  // What there is of one of the tiles.
  int64_t height(int sum) const { return std::min(kTileRows, rows - sum / 2 * kTileRows); }
  int64_t width(int sum) const { return std::min(kTileRows, columns - sum % 2 * kTileRows); }
  bool whole(int sum) const { return height(sum) == kTileRows && width(sum) == kTileRows; }

  template <typename T>
  static T* at(Rows<T> all, int sum) {
    return all.data + (sum / 2 * all.stride + sum % 2) * kTileRows;
  }
};

// Where the result is no whole tile, it goes by way of `room`.
template <int kSum, class Tiles>
inline void begin_sum(Tiles& tiles, const TileResult& result, float* room) {
  if (result.from.data == nullptr) return tiles.template zero<kSum>();
  const float* const from = TileResult::at(result.from, kSum);
  const int64_t stride = result.from.stride;
  if (result.whole(kSum)) {
    return tiles.template load<kSum>(from, stride * static_cast<int64_t>(sizeof(float)));
  }
  std::fill(room, room + kTileRows * kTileRows, 0.f);
  for (int64_t i = 0; i < result.height(kSum); i++) {
    std::copy_n(from + i * stride, result.width(kSum), room + i * kTileRows);
  }
  tiles.template load<kSum>(room, kTileBytes);
}

template <int kSum, class Tiles>
inline void end_sum(const Tiles& tiles, const TileResult& result, float* room) {
  float* const to = TileResult::at(result.to, kSum);
  const int64_t stride = result.to.stride;
  if (result.whole(kSum)) {
    return tiles.template store<kSum>(to, stride * static_cast<int64_t>(sizeof(float)));
  }
  tiles.template store<kSum>(room, kTileBytes);
  for (int64_t i = 0; i < result.height(kSum); i++) {
    std::copy_n(room + i * kTileRows, result.width(kSum), to + i * stride);
  }
}

// A result of kHigh by kWide tiles, over `count` pairs of tiles: what is loaded is multiplied twice.
template <int kHigh, int kWide, class Tiles>
void run_tiles(
    Tiles& tiles, const TileOperand& a, const TileOperand& b, int64_t count, Products products,
    const TileResult& result) {
  constexpr bool high = kHigh == 2, wide = kWide == 2;
  alignas(64) float room[kTileRows * kTileRows];
  begin_sum<0>(tiles, result, room);
  if constexpr (wide) begin_sum<1>(tiles, result, room);
  if constexpr (high) begin_sum<2>(tiles, result, room);
  if constexpr (high && wide) begin_sum<3>(tiles, result, room);
  each_product(a.parts, b.parts, products, [&](const at::BFloat16* left, const at::BFloat16* right) {
    for (int64_t k = 0; k < count; k++, left += a.step, right += b.step) {
      tiles.template load<4>(left, a.stride);
      tiles.template load<6>(right, b.stride);
      tiles.template multiply<0, 4, 6>();
      if constexpr (wide) tiles.template load<7>(right + b.second, b.stride);
      if constexpr (wide) tiles.template multiply<1, 4, 7>();
      if constexpr (high) tiles.template load<5>(left + a.second, a.stride);
      if constexpr (high) tiles.template multiply<2, 5, 6>();
      if constexpr (high && wide) tiles.template multiply<3, 5, 7>();
    }
  });
  end_sum<0>(tiles, result, room);
  if constexpr (wide) end_sum<1>(tiles, result, room);
  if constexpr (high) end_sum<2>(tiles, result, room);
  if constexpr (high && wide) end_sum<3>(tiles, result, room);
}

// The same for a result of any size, block by block: all rows pass by one strip of B. An operand's next
// strip is two tiles on, `second` away from each other.
template <class Tiles>
inline void multiply_tiles(
    Tiles& tiles, const TileOperand& a, const TileOperand& b, int64_t count, Products products,
    const TileResult& result) {
  constexpr int64_t block = 2 * kTileRows;
  for (int64_t n = 0; n < result.columns; n += block) {
    const TileOperand right{b.parts.at(n / kTileRows * b.second), b.second, b.step, b.stride};
    for (int64_t m = 0; m < result.rows; m += block) {
      const TileOperand left{a.parts.at(m / kTileRows * a.second), a.second, a.step, a.stride};
      const float* const from = result.from.data;
      const TileResult part{
          {from == nullptr ? nullptr : from + m * result.from.stride + n, result.from.stride},
          {result.to.data + m * result.to.stride + n, result.to.stride},
          std::min(block, result.rows - m),
          std::min(block, result.columns - n)};
      const bool high = part.rows > kTileRows, wide = part.columns > kTileRows;
      if (high && wide) run_tiles<2, 2>(tiles, left, right, count, products, part);
      else if (high) run_tiles<2, 1>(tiles, left, right, count, products, part);
      else if (wide) run_tiles<1, 2>(tiles, left, right, count, products, part);
      else run_tiles<1, 1>(tiles, left, right, count, products, part);
    }
  }
}

// Two rows, 16 entries of each, interleaved.
inline void interleave(const at::BFloat16* one, const at::BFloat16* other, at::BFloat16* to) {
  uint32_t pairs[kTileRows];
  for (int64_t j = 0; j < kTileRows; j++) {
    pairs[j] = one[j].x | static_cast<uint32_t>(other[j].x) << 16;
  }
  std::memcpy(to, pairs, sizeof pairs);
}

// A tile of 16 by 16 pairs, transposed where it is.
inline void transpose_pairs(at::BFloat16* tile) {
#ifdef CPU_CAPABILITY_AVX512
  __m512i rows[16], mixed[16];
  for (int i = 0; i < 16; i++) rows[i] = _mm512_loadu_si512(tile + i * kTilePairs);
  for (int i = 0; i < 16; i += 2) {  // 2 by 2 pairs, in each quarter of a vector
    mixed[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    mixed[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {  // 4 by 4
    for (int j = 0; j < 2; j++) {
      rows[i + 2 * j] = _mm512_unpacklo_epi64(mixed[i + j], mixed[i + j + 2]);
      rows[i + 2 * j + 1] = _mm512_unpackhi_epi64(mixed[i + j], mixed[i + j + 2]);
    }
  }
  for (int i = 0; i < 16; i += 8) {  // quarters of rows 4 apart
    for (int j = i; j < i + 4; j++) {
      mixed[j] = _mm512_shuffle_i32x4(rows[j], rows[j + 4], 0x88);      // 0 and 2
      mixed[j + 4] = _mm512_shuffle_i32x4(rows[j], rows[j + 4], 0xdd);  // 1 and 3
    }
  }
  for (int i = 0; i < 8; i++) {  // and 8 apart
    rows[i] = _mm512_shuffle_i32x4(mixed[i], mixed[i + 8], 0x88);
    rows[i + 8] = _mm512_shuffle_i32x4(mixed[i], mixed[i + 8], 0xdd);
  }
  for (int i = 0; i < 16; i++) _mm512_storeu_si512(tile + i * kTilePairs, rows[i]);
#else
  uint32_t pairs[kTileRows][kTileRows];
  std::memcpy(pairs, tile, sizeof pairs);
  for (int64_t i = 0; i < kTileRows; i++) {
    for (int64_t j = 0; j < i; j++) std::swap(pairs[i][j], pairs[j][i]);
  }
  std::memcpy(tile, pairs, sizeof pairs);
#endif
}

// The sum of d' a over the rows of a chunk. d is rounded row by row, or comes rounded from whoever else
// multiplied by it; its columns become tiles' rows by interleaving and transposing. a is interleaved.
class TileGradient {
 public:
  using Number = at::BFloat16;

  // d has `height` columns, a has `width`; a chunk has `most` rows.
  TileGradient(int64_t height, int64_t width, int64_t most, Products products)
      : height_(height), width_(width), products_(products) {
    const int64_t rows = round_up(most, kTilePairs);
    stride_ = round_up(height, kTileRows);
    d_ = zeros({products.parts(), rows, stride_}, at::kBFloat16);
    a_ = zeros({products.parts(), rows, round_up(width, kTileRows)}, at::kBFloat16);
  }

  // Where the row of d stands rounded, with zeros behind it.
  Parts<Number> row(int64_t at) const { return parts(d_).at(at * stride_); }

  void round(int64_t rows, const float* d) const {
    at::parallel_for(0, rows, 16, [&](int64_t low, int64_t high) {
      for (int64_t i = low; i < high; i++) round_row(d + i * height_, row(i), height_, products_);
    });
  }

  // to += d' a, of which `row` has the first.
  void add(float* to, int64_t rows, const float* a) const {
    const int64_t count = (rows + kTilePairs - 1) / kTilePairs, depth = count * kTilePairs;
    for (int64_t i = rows; i < depth; i++) clear(row(i), stride_);
    arrange_right(rows, count, a);
    const int64_t blocks = (height_ + kBlock - 1) / kBlock;
    at::parallel_for(0, blocks, 1, [&](int64_t low, int64_t high) {
      const Tensor memory = empty({products_.parts(), kBlock * depth}, at::kBFloat16);
      with_tiles(products_, [&](auto& tiles) {
        for (int64_t m = low * kBlock; m < std::min(high * kBlock, height_); m += kBlock) {
          const int64_t columns = std::min(kBlock, height_ - m);
          arrange_left(m, columns, count, parts(memory));
          const TileOperand left = operand(memory, count), right = operand(a_, count);
          float* const at = to + m * width_;
          multiply_tiles(
              tiles, left, right, count, products_,
              {{at, width_}, {at, width_}, columns, width_});
        }
      });
    });
  }

 private:
  static constexpr int64_t kBlock = 2 * kTileRows;

  Parts<Number> parts(const Tensor& memory) const {
    Number* const high = memory.data_ptr<Number>();
    return {high, high + (products_.parts() - 1) * (memory.numel() / products_.parts())};
  }

  // Calls body(part) for each part.
  template <class Body>
  void each_part(Body body) const {
    body(&Parts<Number>::high);
    if (products_.parts() == 2) body(&Parts<Number>::low);
  }

  void clear(Parts<Number> to, int64_t count) const {
    each_part([&](auto part) { std::fill_n(to.*part, count, Number(0)); });
  }

  // Tiles that follow each other along the sum, `count` of them, and then the next 16 rows or columns.
  TileOperand operand(const Tensor& memory, int64_t count) const {
    const Parts<Number> at = parts(memory);
    return {{at.high, at.low}, count * kTileNumbers, kTileNumbers, kTileBytes};
  }

  // Columns of d from m on.
  void arrange_left(int64_t m, int64_t columns, int64_t count, Parts<Number> to) const {
    each_part([&](auto part) {
      for (int64_t i = 0; i < columns; i += kTileRows) {
        for (int64_t k = 0; k < count; k++) {
          Number* const tile = to.*part + (i / kTileRows * count + k) * kTileNumbers;
          for (int64_t p = 0; p < kTileRows; p++) {
            const Number* const one = row(k * kTilePairs + 2 * p).*part + m + i;
            interleave(one, one + stride_, tile + p * kTilePairs);
          }
          transpose_pairs(tile);
        }
      }
    });
  }

  // The rows of a, rounded, and zeros up to a whole tile.
  void arrange_right(int64_t rows, int64_t count, const float* a) const {
    const Parts<Number> to = parts(a_);
    at::parallel_for(0, count * kTileRows, 8, [&](int64_t low, int64_t high) {
      Number memory[2][2][kStrip];  // of two rows, each in two parts
      for (int64_t p = low; p < high; p++) {
        for (int64_t n = 0; n < width_; n += kStrip) {
          const int64_t columns = std::min(kStrip, width_ - n);
          for (int64_t i = 0; i < 2; i++) {
            const Parts<Number> line{memory[i][0], memory[i][1]};
            clear(line, kStrip);
            const int64_t r = 2 * p + i;
            if (r < rows) round_row(a + r * width_ + n, line, columns, products_);
          }
          for (int64_t j = 0; j < columns; j += kTileRows) {
            const int64_t tile = (n + j) / kTileRows * count + p / kTileRows;
            const int64_t at = tile * kTileNumbers + p % kTileRows * kTilePairs;
            interleave(memory[0][0] + j, memory[1][0] + j, to.high + at);
            if (products_.parts() == 1) continue;
            interleave(memory[0][1] + j, memory[1][1] + j, to.low + at);
          }
        }
      }
    });
  }

  static constexpr int64_t kStrip = 256;

  int64_t height_, width_, stride_;
  Products products_;
  Tensor d_, a_;
};

}  // namespace lnrnn
