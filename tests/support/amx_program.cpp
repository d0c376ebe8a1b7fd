// Hand-written tile instructions for the emulator, each part compared with plain arithmetic that is
// exact, or asked for by name to be refused. A part that fails says where, and ends with 1.
#include <immintrin.h>
#include <signal.h>
#include <sys/mman.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

extern "C" void amx_emulator_install();
extern "C" void amx_emulator_sum_one_by_one(bool wanted);
extern "C" uint64_t amx_emulator_count(const char* name);

#define CHECK(what)                                               \
  do {                                                            \
    if (!(what)) {                                                \
      std::fprintf(stderr, "line %d: not %s\n", __LINE__, #what); \
      std::exit(1);                                               \
    }                                                             \
  } while (false)

namespace {

struct alignas(64) Config {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};

  Config& tile(int number, int of_rows, int of_bytes) {
    rows[number] = static_cast<uint8_t>(of_rows);
    bytes[number] = static_cast<uint16_t>(of_bytes);
    return *this;
  }
};

void configure(const Config& config) { asm volatile("ldtilecfg %0" ::"m"(config)); }
void release() { asm volatile("tilerelease" ::: "memory"); }

// All eight tiles with 16 rows of 64 bytes.
Config whole() {
  Config config;
  for (int i = 0; i < 8; i++) config.tile(i, 16, 64);
  return config;
}

uint16_t bfloat16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  CHECK((bits & 0xffff) == 0);
  return static_cast<uint16_t>(bits >> 16);
}

// ---- Products

uint32_t seed = 1;
int small() {  // -8 to 8
  seed = seed * 1664525 + 1013904223;
  return static_cast<int>(seed >> 16) % 17 - 8;
}

// A product of m by k pairs by n, of integers, whose sums float32 has exactly. Rows lie apart by more
// than they are long, and what lies between them must stay as it is.
void check_product(int m, int n, int k) {
  constexpr int apart = 75;  // bytes
  constexpr uint8_t untouched = 0xa5;
  std::vector<uint16_t> left(m * 2 * k), right(2 * k * n);  // the right in pairs of rows
  std::vector<float> start(m * n), sum(m * n);
  for (auto& value : left) value = bfloat16(static_cast<float>(small()));
  for (auto& value : right) value = bfloat16(static_cast<float>(small()));
  for (auto& value : start) value = static_cast<float>(small());
  const auto number = [](uint16_t value) {
    const uint32_t bits = static_cast<uint32_t>(value) << 16;
    float found;
    std::memcpy(&found, &bits, sizeof found);
    return found;
  };
  for (int i = 0; i < m; i++) {
    for (int j = 0; j < n; j++) {
      sum[i * n + j] = start[i * n + j];
      for (int p = 0; p < 2 * k; p++) {
        sum[i * n + j] += number(left[i * 2 * k + p]) * number(right[(p / 2 * n + j) * 2 + p % 2]);
      }
    }
  }
  std::vector<uint8_t> memory(16 * apart, untouched);
  for (int i = 0; i < m; i++) std::memcpy(&memory[i * apart], &start[i * n], 4 * n);
  configure(Config().tile(1, m, 4 * n).tile(6, m, 4 * k).tile(3, k, 4 * n));
  const int64_t of_left = 4 * k, of_right = 4 * n;
  asm volatile("tileloadd (%0,%1,1), %%tmm1" ::"r"(memory.data()), "r"(int64_t{apart}) : "memory");
  asm volatile("tileloadd (%0,%1,1), %%tmm6" ::"r"(left.data()), "r"(of_left) : "memory");
  asm volatile("tileloadd (%0,%1,1), %%tmm3" ::"r"(right.data()), "r"(of_right) : "memory");
  asm volatile("tdpbf16ps %tmm3, %tmm6, %tmm1");
  asm volatile("tilestored %%tmm1, (%0,%1,1)" ::"r"(memory.data()), "r"(int64_t{apart}) : "memory");
  for (int i = 0; i < m; i++) CHECK(std::memcmp(&memory[i * apart], &sum[i * n], 4 * n) == 0);
  for (int i = 0; i < 16 * apart; i++) {
    if (i / apart >= m || i % apart >= 4 * n) CHECK(memory[i] == untouched);
  }
  asm volatile("tilezero %tmm1");
  asm volatile("tilestored %%tmm1, (%0,%1,1)" ::"r"(memory.data()), "r"(int64_t{apart}) : "memory");
  for (int i = 0; i < 4 * n; i++) CHECK(memory[(m - 1) * apart + i] == 0);
  release();
}

void products() {
  for (int m : {1, 5, 16}) {
    for (int n : {1, 7, 16}) {
      for (int k : {1, 3, 16}) check_product(m, n, k);
    }
  }
  for (const char* name : {"ldtilecfg", "tilerelease", "tilezero", "tdpbf16ps"}) {
    CHECK(amx_emulator_count(name) == 27);
  }
  CHECK(amx_emulator_count("tileloadd") == 3 * 27);
  CHECK(amx_emulator_count("tilestored") == 2 * 27);
  CHECK(amx_emulator_count("threads") == 1);
}

// The sum, by one instruction, of pairs of products, and of what was there.
float sum_of(std::vector<float> left, std::vector<float> right, float start) {
  std::vector<uint16_t> a, b;
  for (float value : left) a.push_back(bfloat16(value));
  for (float value : right) b.push_back(bfloat16(value));
  const int pairs = static_cast<int>(a.size()) / 2;
  configure(Config().tile(0, 1, 4).tile(4, 1, 4 * pairs).tile(7, pairs, 4));
  asm volatile("tileloadd (%0,%1,1), %%tmm0" ::"r"(&start), "r"(int64_t{0}) : "memory");
  asm volatile("tileloadd (%0,%1,1), %%tmm4" ::"r"(a.data()), "r"(int64_t{0}) : "memory");
  asm volatile("tileloadd (%0,%1,1), %%tmm7" ::"r"(b.data()), "r"(int64_t{4}) : "memory");
  asm volatile("tdpbf16ps %tmm7, %tmm4, %tmm0");
  asm volatile("tilestored %%tmm0, (%0,%1,1)" ::"r"(&start), "r"(int64_t{0}) : "memory");
  release();
  return start;
}

void sums() {
  const float large = 0x1p24f, least = std::numeric_limits<float>::min();
  CHECK(sum_of({large, 1, -large, 0}, {1, 1, 1, 1}, 0) == 1);   // 1 is not added to the large one
  CHECK(sum_of({large, 0, 1, 0, -large, 0}, {1, 1, 1, 1, 1, 1}, 0) == 0);  // here it is
  CHECK(sum_of({large, 0, 3, 0, -large, 0}, {1, 1, 1, 1, 1, 1}, 0) == 4);  // the nearest that is even
  CHECK(sum_of({1, 0}, {1, 1}, large) == large);                // what was there comes last
  CHECK(sum_of({least / 2, 0}, {4, 1}, 0) == 0);                // denormal, so read as zero
  CHECK(sum_of({least, 0}, {0.5f, 1}, 0) == 0);                 // and so written
  CHECK(sum_of({0, 0}, {1, 1}, least / 2) == 0);
  CHECK(std::signbit(sum_of({-least, -least}, {0.5f, 0.5f}, -0.f)));
  CHECK(sum_of({least, 0}, {1, 1}, 0) == least);
  amx_emulator_sum_one_by_one(true);
  CHECK(sum_of({large, 1, -large, 0}, {1, 1, 1, 1}, 0) == 0);
  CHECK(sum_of({1, 1}, {1, 1}, large) == large);
  amx_emulator_sum_one_by_one(false);
  CHECK(sum_of({1, 1}, {1, 1}, large) == large + 2);
  CHECK(sum_of({0x1p127f, 0}, {2, 1}, 0) == std::numeric_limits<float>::infinity());
  CHECK(std::isnan(sum_of({std::numeric_limits<float>::infinity(), 0}, {0, 1}, 0)));
}

// Roundings are the instruction's own, and what the interrupted code has in registers stays.
void surroundings() {
  const unsigned control = _mm_getcsr();
  _mm_setcsr((control | _MM_ROUND_UP) & ~_MM_FLUSH_ZERO_ON);
  const float found = sum_of({0x1p24f, 0, 1, 0}, {1, 1, 1, 1}, 0);
  const float denormal = sum_of({std::numeric_limits<float>::min(), 0}, {0.5f, 1}, 0);
  CHECK((_mm_getcsr() & _MM_ROUND_MASK) == _MM_ROUND_UP);
  _mm_setcsr(control);
  CHECK(found == 0x1p24f);
  CHECK(denormal == 0);
  const Config config = whole();
  uint64_t vector[2] = {0x0123456789abcdef, 0xfedcba9876543210}, after[2] = {};
  uint64_t flags = 0;
  asm volatile(
      "movdqu (%1), %%xmm9\n\t"
      "stc\n\t"
      "ldtilecfg %3\n\t"
      "tilezero %%tmm2\n\t"
      "tilerelease\n\t"
      "sbb %0, %0\n\t"  // all bits of the carry
      "movdqu %%xmm9, (%2)"
      : "=&r"(flags)
      : "r"(vector), "r"(after), "m"(config)
      : "xmm9", "memory", "cc");
  CHECK(flags == ~uint64_t{0});
  CHECK(std::memcmp(vector, after, sizeof vector) == 0);
}

// ---- Ways to write an operand

alignas(64) uint8_t from[64 * 16 * 8];  // bytes that all differ from their neighbors
alignas(64) uint8_t to[16 * 64];
Config global asm("global_config") = whole();

// That `load` reads 16 rows from `begin` on, `stride` apart.
#define CHECK_LOAD(load, begin, stride)                                                 \
  do {                                                                                  \
    asm volatile(load "\n\ttilestored %%tmm5, (%[to],%[apart],1)" ::[to] "r"(to),      \
                 [apart] "r"(int64_t{64}), "a"(from), "c"(int64_t{stride})              \
                 : "rdx", "r8", "r9", "r12", "r13", "memory");                          \
    for (int i = 0; i < 16; i++) {                                                      \
      CHECK(std::memcmp(to + 64 * i, (begin) + int64_t{stride} * i, 64) == 0);          \
    }                                                                                   \
  } while (false)

void operands() {
  for (size_t i = 0; i < sizeof from; i++) from[i] = static_cast<uint8_t>(i * 7 + i / 256);
  asm volatile("ldtilecfg global_config(%%rip)" ::: "memory");
  CHECK_LOAD("tileloadd (%%rax,%%rcx,1), %%tmm5", from, 96);
  CHECK_LOAD("tileloadd (%%rax), %%tmm5", from, 0);
  CHECK_LOAD("mov %%rcx, %%rdx; shr $3, %%rdx; tileloadd 64(%%rax,%%rdx,8), %%tmm5", from + 64, 120);
  CHECK_LOAD("lea 128(%%rax), %%r13; tileloadd -128(%%r13,%%rcx,1), %%tmm5", from, 68);
  CHECK_LOAD("mov %%rax, %%r12; mov %%rcx, %%r9; tileloadd 513(%%r12,%%r9,1), %%tmm5", from + 513, 65);
  CHECK_LOAD("mov %%rax, %%r13; tileloadd (%%r13,%%rcx,1), %%tmm5", from, 100);
  CHECK_LOAD("lea 2(%%rax), %%rdx; mov %%rcx, %%r12; shr $1, %%r12; tileloadd -1(%%rdx,%%r12,2), %%tmm5",
             from + 1, 80);
  CHECK_LOAD("mov %%rax, %%rdx; mov %%rcx, %%r8; shr $2, %%r8; tileloadd (%%rdx,%%r8,4), %%tmm5",
             from, 76);
  CHECK_LOAD("lea 960(%%rax), %%rdx; tileloadd (%%rdx,%%rcx,1), %%tmm5", from + 960, -64);
  // Without a base, at an address of 32 bits.
  constexpr uintptr_t low = 0x10000000;
  void* const mapped = mmap(
      reinterpret_cast<void*>(low), 4096, PROT_READ | PROT_WRITE,
      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  CHECK(mapped == reinterpret_cast<void*>(low));
  std::memcpy(mapped, from, 2048);
  CHECK_LOAD("tileloadd 0x10000000(,%%rcx,1), %%tmm5", from, 72);
  // A configuration needs no SIB.
  const Config local = whole();
  const uint64_t at = reinterpret_cast<uint64_t>(&local);
  asm volatile("ldtilecfg (%0)" ::"a"(at) : "memory");
  asm volatile("ldtilecfg -100(%0)" ::"b"(at + 100) : "memory");
  asm volatile("mov %0, %%r10; ldtilecfg 512(%%r10)" ::"r"(at - 512) : "r10", "memory");
  asm volatile("mov %0, %%r11; ldtilecfg 16(%%r11,%1,8)" ::"r"(at - 32), "r"(int64_t{2})
               : "r11", "memory");
  asm volatile("tilestored %%tmm5, (%0,%1,1)" ::"r"(to), "r"(int64_t{64}) : "memory");
  for (uint8_t value : to) CHECK(value == 0);  // a configuration makes tiles zero
  release();
}

// ---- As the compiler encodes them

__attribute__((target("amx-tile,amx-bf16"))) void intrinsics() {
  const Config config = whole();
  alignas(64) uint16_t numbers[16 * 32];
  alignas(64) float written[16 * 16], compiled[16 * 16];
  for (auto& value : numbers) value = bfloat16(static_cast<float>(small()));
  configure(config);
  asm volatile("tilezero %tmm2");
  asm volatile("tileloadd (%0,%1,1), %%tmm4" ::"r"(numbers), "r"(int64_t{64}) : "memory");
  asm volatile("tileloadd (%0,%1,1), %%tmm7" ::"r"(numbers + 32), "r"(int64_t{32}) : "memory");
  asm volatile("tdpbf16ps %tmm7, %tmm4, %tmm2");
  asm volatile("tilestored %%tmm2, (%0,%1,1)" ::"r"(written), "r"(int64_t{64}) : "memory");
  release();
  asm volatile("" ::: "memory");  // the intrinsics do not say what they read
  _tile_loadconfig(&config);
  _tile_zero(2);
  _tile_loadd(4, numbers, 64);
  _tile_loadd(7, numbers + 32, 32);
  _tile_dpbf16ps(2, 4, 7);
  _tile_stored(2, compiled, 64);
  _tile_release();
  asm volatile("" ::: "memory");
  CHECK(std::memcmp(written, compiled, sizeof written) == 0);
  float largest = 0;
  for (float value : written) largest = std::max(largest, std::abs(value));
  CHECK(largest > 0);
}

// ---- Threads have tiles of their own

void threads() {
  std::vector<std::thread> running;
  for (int t = 0; t < 4; t++) {
    running.emplace_back([t] {
      for (int i = 0; i < 500; i++) {
        const float value = static_cast<float>(t + 1);
        CHECK(sum_of({value, value}, {2, 1}, value) == 4 * value);
      }
    });
  }
  for (auto& thread : running) thread.join();
  CHECK(amx_emulator_count("threads") == 4);
}

// ---- What a CPU refuses

void zero_first() { asm volatile("tilezero %tmm0"); }

void refused(std::string_view what) {
  Config config = whole();
  if (what == "palette") config.palette = 2;
  if (what == "start row") config.start_row = 1;
  if (what == "reserved") config.reserved[13] = 1;
  if (what == "a ninth tile's bytes") config.bytes[8] = 64;
  if (what == "a ninth tile's rows") config.rows[8] = 16;
  if (what == "rows") config.rows[7] = 17;
  if (what == "bytes") config.bytes[7] = 65;
  if (what == "no bytes") config.bytes[2] = 0;
  if (what == "no tile") config.tile(0, 0, 0);
  if (what == "other rows") config.rows[1] = 15;
  if (what == "other columns") config.bytes[2] = 60;
  if (what == "other depth") config.rows[2] = 15;
  if (what == "no fours") config.bytes[1] = 62;
  if (what == "no configuration") return zero_first();
  configure(config);
  if (what == "released") return release(), zero_first();
  if (what == "another thread") return std::thread(zero_first).join();
  if (what == "no tile") return zero_first();
  // tdpbf16ps of these as the sum, the left and the right, which the assembler would not write:
  if (what == "the sum is left") asm volatile(".byte 0xc4, 0xe2, 0x6a, 0x5c, 0xc0");   // 0, 0, 2
  if (what == "the sum is right") asm volatile(".byte 0xc4, 0xe2, 0x7a, 0x5c, 0xc1");  // 0, 1, 0
  if (what == "left is right") asm volatile(".byte 0xc4, 0xe2, 0x72, 0x5c, 0xc1");     // 0, 1, 1
  asm volatile("tdpbf16ps %tmm2, %tmm1, %tmm0");
}

// ---- What is no instruction of the emulator's

void illegal(std::string_view what) {
  configure(whole());
  if (what == "ud2") asm volatile("ud2");
  if (what == "sttilecfg") asm volatile("sttilecfg %0" : "=m"(global));
  if (what == "tile 8") asm volatile(".byte 0xc4, 0x62, 0x7b, 0x49, 0xc0");     // tilezero
  if (what == "no sib") asm volatile(".byte 0xc4, 0xe2, 0x7b, 0x4b, 0x00");     // tileloadd (%rax)
  if (what == "a vector") asm volatile(".byte 0xc4, 0xe2, 0x7f, 0x49, 0xc0");   // of 256 bits
  if (what == "a wide one") asm volatile(".byte 0xc4, 0xe2, 0xfb, 0x49, 0xc0");
}

void handled_before(int) { std::_Exit(42); }

}  // namespace

int main(int count, char** words) {
  CHECK(count == 3);
  const std::string_view part = words[1], what = words[2];
  if (part == "handled") signal(SIGILL, handled_before);
  amx_emulator_install();
  if (part == "products") products();
  else if (part == "sums") sums();
  else if (part == "surroundings") surroundings();
  else if (part == "operands") operands();
  else if (part == "intrinsics") intrinsics();
  else if (part == "threads") threads();
  else if (part == "refused") refused(what);
  else if (part == "illegal" || part == "handled") illegal(what);
  else CHECK(false);
}
