// AMX's tile instructions on a CPU without AMX. Such a CPU takes them for illegal and raises SIGILL; a
// handler decodes the bytes it stopped at, does to tiles in memory what Intel's manual says (Software
// Developer's Manual, volume 2, the page of each instruction), and goes on behind them. So tests run the
// very bytes that the kernels consist of.
//
// What a CPU with AMX would refuse ends the process with a message. Bytes that are none of these
// instructions go to whoever handled SIGILL before, so what is illegal still dies of it.
#include <signal.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr int kTiles = 8, kMostRows = 16, kMostBytes = 64;  // of palette 1

enum Kind { ldtilecfg, tilerelease, tilezero, tileloadd, tilestored, tdpbf16ps, kKinds };
constexpr const char* kNames[kKinds] = {
    "ldtilecfg", "tilerelease", "tilezero", "tileloadd", "tilestored", "tdpbf16ps"};
std::atomic<uint64_t> counts[kKinds];
std::atomic<uint64_t> threads;  // that have ever had tiles

// ---- What an instruction consists of

// VEX's three bytes, the opcode, ModRM, and for memory perhaps SIB and a displacement. Numbers of
// registers have a fourth bit in VEX, inverted.
struct Instruction {
  int prefix = 0, opcode = 0;     // prefix: none, 66, F3, F2, counted from 0
  int reg = 0, rm = 0, vvvv = 0;  // registers' numbers; vvvv is 0 where nothing is encoded in it
  bool memory = false, has_sib = false;
  uint64_t base = 0, index = 0;   // of memory: where it is without the index, and the index, scaled
  int length = 0;
};

constexpr int kRegisters[16] = {
    REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
    REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

// The signed number of 0, 1 or 4 bytes.
int64_t displacement(const uint8_t* at, int size) {
  if (size == 1) return static_cast<int8_t>(*at);
  int32_t value = 0;
  std::memcpy(&value, at, size);
  return value;
}

// Fills in `base`, `index` and `has_sib`, and returns where the instruction ends. `at` is behind ModRM.
const uint8_t* decode_memory(
    const uint8_t* at, int mod, int x, int b, const greg_t* values, Instruction& found) {
  const auto value = [&](int number) { return static_cast<uint64_t>(values[kRegisters[number]]); };
  int base = found.rm & 7;
  found.has_sib = base == 4;
  if (found.has_sib) {
    const int sib = *at++, index = (sib >> 3 & 7) | x << 3;
    if (index != 4) found.index = value(index) << (sib >> 6);  // 4 means none
    base = sib & 7;
  }
  const bool has_base = !(base == 5 && mod == 0);
  const int size = mod == 1 ? 1 : mod == 2 || !has_base ? 4 : 0;
  found.base = displacement(at, size);
  at += size;
  if (has_base) found.base += value(base | b << 3);
  else if (!found.has_sib) found.base += reinterpret_cast<uint64_t>(at);  // counts from there
  return at;
}

// Whether the bytes are VEX.128.0F38.W0 with an opcode of AMX. More than that is not read.
bool decode(const uint8_t* start, const greg_t* values, Instruction& found) {
  if (start[0] != 0xc4 || (start[1] & 0x1f) != 2) return false;  // the map 0F 38
  if ((start[2] & 0x84) != 0) return false;                      // W and L
  if (start[3] != 0x49 && start[3] != 0x4b && start[3] != 0x5c) return false;
  const int r = ~start[1] >> 7 & 1, x = ~start[1] >> 6 & 1, b = ~start[1] >> 5 & 1;
  const int modrm = start[4], mod = modrm >> 6;
  found.prefix = start[2] & 3;
  found.opcode = start[3];
  found.reg = (modrm >> 3 & 7) | r << 3;
  found.rm = (modrm & 7) | b << 3;
  found.vvvv = ~start[2] >> 3 & 15;
  found.memory = mod != 3;
  const uint8_t* end = start + 5;
  if (found.memory) end = decode_memory(end, mod, x, b, values, found);
  found.length = static_cast<int>(end - start);
  return true;
}

// kKinds if it is none of ours. Tiles from 8 on are none.
Kind kind_of(const Instruction& it) {
  constexpr int none = 0, f3 = 2, f2 = 3;
  const bool alone = it.vvvv == 0;
  if (it.reg >= kTiles) return kKinds;
  if (it.opcode == 0x49 && alone) {
    if (it.prefix == none && it.memory && it.reg == 0) return ldtilecfg;
    if (it.prefix == none && !it.memory && it.reg == 0 && it.rm == 0) return tilerelease;
    if (it.prefix == f2 && !it.memory && it.rm == 0) return tilezero;
  }
  if (it.opcode == 0x4b && alone && it.has_sib) {
    if (it.prefix == f2) return tileloadd;
    if (it.prefix == f3) return tilestored;
  }
  if (it.opcode == 0x5c && it.prefix == f3 && !it.memory && it.rm < kTiles && it.vvvv < kTiles) {
    return tdpbf16ps;
  }
  return kKinds;
}

// ---- What it does

// What ldtilecfg reads.
struct Config {
  uint8_t palette, start_row, reserved[14];
  uint16_t bytes[16];  // of a row; palette 1 has 8 tiles, the rest is reserved
  uint8_t rows[16];
};
static_assert(sizeof(Config) == 64);

// A thread's tiles. A thread's first instruction may allocate them, which a handler may do here: nothing
// but a tile instruction was interrupted.
struct State {
  bool configured, counted;
  Config config;
  uint8_t data[kTiles][kMostRows][kMostBytes];
};
thread_local State state;

template <typename... Args>
[[noreturn]] void refuse(Kind kind, const char* rule, Args... args) {
  dprintf(STDERR_FILENO, "amx_emulator: %s: ", kNames[kind]);
  dprintf(STDERR_FILENO, rule, args...);
  dprintf(STDERR_FILENO, "\n");
  std::abort();
}

bool all_zero(const void* from, size_t count) {
  static constexpr uint8_t zeros[16] = {};
  return std::memcmp(from, zeros, count) == 0;
}

// The hardware also takes palette 0, which releases tiles, and a start_row of an instruction that was
// interrupted. Neither is emulated.
void configure(uint64_t from) {
  Config config;
  std::memcpy(&config, reinterpret_cast<const void*>(from), sizeof config);
  if (config.palette != 1) refuse(ldtilecfg, "the palette has to be 1, and is %d", config.palette);
  if (config.start_row != 0) refuse(ldtilecfg, "start_row is not emulated, and is %d", config.start_row);
  if (!all_zero(config.reserved, 14) || !all_zero(config.bytes + kTiles, 16) ||
      !all_zero(config.rows + kTiles, 8)) {
    refuse(ldtilecfg, "reserved bytes (2 to 15, 32 to 47, 56 to 63) have to be 0");
  }
  for (int i = 0; i < kTiles; i++) {
    const int rows = config.rows[i], bytes = config.bytes[i];
    if (rows > kMostRows || bytes > kMostBytes || (rows == 0) != (bytes == 0)) {
      refuse(
          ldtilecfg, "a tile has 1 to 16 rows of 1 to 64 bytes, or 0 of both; tile %d has %d of %d", i,
          rows, bytes);
    }
  }
  if (!state.counted) threads++;
  std::memset(&state, 0, sizeof state);
  state.config = config;
  state.configured = state.counted = true;
}

struct Tile {
  int rows, bytes;
  uint8_t (*data)[kMostBytes];
};

Tile use(Kind kind, int number) {
  if (!state.configured) refuse(kind, "this thread has no tiles: ldtilecfg comes first");
  const Config& config = state.config;
  if (config.rows[number] == 0) refuse(kind, "tile %d has no rows in the configuration", number);
  return {config.rows[number], config.bytes[number], state.data[number]};
}

void zero(const Tile& tile) { std::memset(tile.data, 0, kMostRows * kMostBytes); }

// What the tile has no room for, to the right and below, becomes zero.
void load(const Tile& tile, uint64_t base, uint64_t stride) {
  zero(tile);
  for (int i = 0; i < tile.rows; i++) {
    std::memcpy(tile.data[i], reinterpret_cast<const void*>(base + i * stride), tile.bytes);
  }
}

void store(const Tile& tile, uint64_t base, uint64_t stride) {
  for (int i = 0; i < tile.rows; i++) {
    std::memcpy(reinterpret_cast<void*>(base + i * stride), tile.data[i], tile.bytes);
  }
}

float flushed(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.f, x) : x; }

float single(const uint8_t* from) {
  float value;
  std::memcpy(&value, from, sizeof value);
  return flushed(value);
}

float bfloat16(const uint8_t* from) {
  const uint32_t bits = from[0] << 16 | static_cast<uint32_t>(from[1]) << 24;
  return single(reinterpret_cast<const uint8_t*>(&bits));
}

float multiply_add(float a, float b, float sum) { return flushed(std::fma(a, b, sum)); }

bool one_by_one = false;  // as amx_emulator_sum_one_by_one has it

// In the order of the manual's pseudo code: for each entry of the result, even products add up, one
// after the other and rounded once each, and so do the odd ones; their sum is added to what was there.
// Denormal numbers are zero, read or written, and roundings are to the nearest, ties to even (a handler
// starts with the control word that does so), whatever the interrupted code has chosen. Which NaN comes
// out of several is not emulated.
void multiply(const Tile& sum, const Tile& left, const Tile& right) {
  const int columns = sum.bytes / 4;
  for (int m = 0; m < sum.rows; m++) {
    float start[kMostRows] = {}, even[kMostRows] = {}, odd[kMostRows] = {};
    float* const first = one_by_one ? start : even;
    float* const second = one_by_one ? start : odd;
    for (int n = 0; n < columns; n++) start[n] = single(sum.data[m] + 4 * n);
    for (int k = 0; k < left.bytes / 4; k++) {
      const float a = bfloat16(left.data[m] + 4 * k), b = bfloat16(left.data[m] + 4 * k + 2);
      for (int n = 0; n < columns; n++) {
        first[n] = multiply_add(a, bfloat16(right.data[k] + 4 * n), first[n]);
        second[n] = multiply_add(b, bfloat16(right.data[k] + 4 * n + 2), second[n]);
      }
    }
    for (int n = 0; n < columns; n++) start[n] = flushed(start[n] + flushed(even[n] + odd[n]));
    std::memcpy(sum.data[m], start, sizeof start);  // zero to the right
  }
  for (int m = sum.rows; m < kMostRows; m++) std::memset(sum.data[m], 0, kMostBytes);
}

void check_shapes(const Tile& sum, const Tile& left, const Tile& right) {
  if (sum.data == left.data || sum.data == right.data || left.data == right.data) {
    refuse(tdpbf16ps, "the three tiles have to differ");
  }
  if (sum.bytes % 4 != 0 || left.bytes % 4 != 0 || right.bytes % 4 != 0) {
    refuse(
        tdpbf16ps, "rows have to be multiples of 4 bytes; they are %d, %d and %d", sum.bytes, left.bytes,
        right.bytes);
  }
  if (sum.rows != left.rows || sum.bytes != right.bytes || left.bytes / 4 != right.rows) {
    refuse(
        tdpbf16ps, "a sum of %d rows of %d bytes does not fit a left tile of %d of %d and a right one of "
        "%d of %d", sum.rows, sum.bytes, left.rows, left.bytes, right.rows, right.bytes);
  }
}

void execute(Kind kind, const Instruction& it) {
  switch (kind) {
    case ldtilecfg: return configure(it.base + it.index);
    case tilerelease: state.configured = false; return;
    case tilezero: return zero(use(kind, it.reg));
    case tileloadd: return load(use(kind, it.reg), it.base, it.index);
    case tilestored: return store(use(kind, it.reg), it.base, it.index);
    default: break;
  }
  const Tile sum = use(kind, it.reg), left = use(kind, it.rm), right = use(kind, it.vvvv);
  check_shapes(sum, left, right);
  multiply(sum, left, right);
}

// ---- How it comes to be asked

struct sigaction earlier;

void pass_on(int signal, siginfo_t* info, void* context) {
  if (earlier.sa_flags & SA_SIGINFO) return earlier.sa_sigaction(signal, info, context);
  if (earlier.sa_handler != SIG_DFL && earlier.sa_handler != SIG_IGN) return earlier.sa_handler(signal);
  sigaction(SIGILL, &earlier, nullptr);  // the instruction is met again, without us
}

// The kernel keeps the interrupted code's vectors and flags, and brings them back.
void handle(int signal, siginfo_t* info, void* context) {
  greg_t* const values = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  Instruction it;
  if (!decode(reinterpret_cast<const uint8_t*>(values[REG_RIP]), values, it)) {
    return pass_on(signal, info, context);
  }
  const Kind kind = kind_of(it);
  if (kind == kKinds) return pass_on(signal, info, context);
  execute(kind, it);
  counts[kind]++;
  values[REG_RIP] += it.length;
}

}  // namespace

extern "C" {

void amx_emulator_install() {
  struct sigaction action = {};
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO;
  if (sigaction(SIGILL, &action, &earlier) != 0) {
    std::perror("sigaction");
    std::abort();
  }
}

// Whether products are added to what was there one after the other, instead of as the hardware does. So
// the kernels' plain loops do it, whose bits are then the same.
void amx_emulator_sum_one_by_one(bool wanted) { one_by_one = wanted; }

// How often an instruction has run; of "threads", how many threads have had tiles.
uint64_t amx_emulator_count(const char* name) {
  if (std::strcmp(name, "threads") == 0) return threads;
  for (int i = 0; i < kKinds; i++) {
    if (std::strcmp(name, kNames[i]) == 0) return counts[i];
  }
  std::fprintf(stderr, "amx_emulator: counts are of its instructions and of threads, not of %s\n", name);
  std::abort();
}

}  // extern "C"
