// The products of product.hpp. They are compiled once and not for each cell: a tile of every size takes
// longer to compile than a cell.
#include "product.hpp"

#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "bfloat16.hpp"
#include "vectors.hpp"

namespace lnrnn {

namespace {

// Read once: a backward that went another way than its forward would be hard to see.
bool wants_tiles() {
  static const bool wants = [] {
    const char* const value = std::getenv("LNRNN_AMX_TILES");
    const std::string_view given = value == nullptr ? "0" : value;
    TORCH_CHECK_VALUE(
        given == "0" || given == "1", "LNRNN_AMX_TILES is 1, for products by our own tiles on CPUs with "
        "AMX, or 0; got '", given, "'");
    return given == "1";
  }();
  return wants;
}

Products products_named(std::string_view name) {
  if (name == "float32") return {0};
  const bool three = name.size() > 2 && name.substr(name.size() - 2) == "x3";
  const int count = three ? 3 : 1;
  const std::string_view kind = three ? name.substr(0, name.size() - 2) : name;
  if (kind == "bfloat16") return {count};
  if (kind == "tiles") return {count, has_amx() ? Products::amx : Products::plain};
  TORCH_CHECK_VALUE(
      kind == "plain", "narrow is 'float32', 'bfloat16', 'tiles' or 'plain', the last three also "
      "with 'x3' behind, or None; got '", name, "'");
  return {count, Products::plain};
}

}  // namespace

Products products_for(
    std::optional<at::ScalarType> storage, std::optional<std::string_view> narrow) {
  if (narrow) return products_named(*narrow);
  const bool wanted = wants_tiles();
  if (!at::native::cpublas::could_pack(at::kBFloat16)) return {0};  // no AMX
  const Products::By by = wanted && has_amx() ? Products::amx : Products::onednn;
  if (storage) return {storage == at::kBFloat16 ? 1 : 0, by};
  using at::Float32Backend, at::Float32Op, at::Float32Precision;
  const at::Context& context = at::globalContext();
  Float32Precision precision = context.float32Precision(Float32Backend::MKLDNN, Float32Op::RNN);
  if (precision == Float32Precision::NONE) {  // which torch.set_float32_matmul_precision sets
    precision = context.float32Precision(Float32Backend::MKLDNN, Float32Op::MATMUL);
  }
  if (precision == Float32Precision::BF16) return {1, by};
  // "high". Three products by oneDNN take as long as one of float32, which torch allows, too.
  if (precision == Float32Precision::TF32 && by == Products::amx) return {3, by};
  return {0};
}

namespace {

// A tile of the product stays in registers, kHigh rows of it by kVectors vectors: as many as there
// are registers for, with those for a row of B and an entry of A. A turn of its loop takes kTurn entries of
// A: on Zen 3 four take 0.75 to 0.9 of the time of one.
#ifdef CPU_CAPABILITY_AVX512
constexpr int kHigh = 6, kVectors = 4, kTurn = 1;
#else
constexpr int kHigh = 4, kVectors = 3, kTurn = 4;
#endif

// What one tile needs: its part of A; a slice of a panel of B; where it starts from and goes to.
template <typename T>
struct Tile {
  Rows<const T> a;
  const T* b;
  int64_t inner;      // rows of the slice
  Rows<const T> from;
  Rows<T> to;
  int64_t last;       // entries in the panel's last vector
  const char* ahead;  // what will be read next, fetched `step` bytes a row of the slice
  int64_t step;
};

template <typename T, int kRows, int kWide>
void run_tile(const Tile<T>& tile) {
  constexpr int64_t width = Vec<T>::size();
  const auto each = [](auto body) {  // unrolled, so that sums live in registers
#pragma GCC unroll 8
    for (int m = 0; m < kRows; m++)
#pragma GCC unroll 8
      for (int v = 0; v < kWide; v++) body(m, v);
  };
  const auto whole = [&](int v) { return v + 1 < kWide || tile.last == width; };
  Vec<T> sums[kRows][kWide];
  each([&](int m, int v) {
    const T* from = tile.from.data + m * tile.from.stride + v * width;
    sums[m][v] = tile.from.data == nullptr ? Vec<T>(T(0))
                 : whole(v)                ? Vec<T>::loadu(from)
                                           : Vec<T>::loadu(from, tile.last);
  });
  const char* ahead = tile.ahead;
  const auto add = [&](int64_t k) __attribute__((always_inline)) {
    __builtin_prefetch(ahead, 0, 2);
    ahead += tile.step;
    Vec<T> b[kWide];
#pragma GCC unroll 8
    for (int v = 0; v < kWide; v++) b[v] = Vec<T>::loadu(tile.b + (k * kWide + v) * width);
#pragma GCC unroll 8
    for (int m = 0; m < kRows; m++) {
      const Vec<T> a(tile.a.data[m * tile.a.stride + k]);
#pragma GCC unroll 8
      for (int v = 0; v < kWide; v++) sums[m][v] = at::vec::fmadd(a, b[v], sums[m][v]);
    }
  };
  int64_t k = 0;
  for (; k + kTurn <= tile.inner; k += kTurn) {
#pragma GCC unroll 8
    for (int turn = 0; turn < kTurn; turn++) add(k + turn);
  }
  for (; k < tile.inner; k++) add(k);
  each([&](int m, int v) {
    T* to = tile.to.data + m * tile.to.stride + v * width;
    if (whole(v)) sums[m][v].store(to);
    else sums[m][v].store(to, static_cast<int>(tile.last));
  });
}

template <typename T>
using RunTile = void (*)(const Tile<T>&);

template <typename T, int kWide>
constexpr std::array<RunTile<T>, kHigh> tiles_of() {
  return []<int... kRows>(std::integer_sequence<int, kRows...>) {
    return std::array<RunTile<T>, kHigh>{run_tile<T, kRows + 1, kWide>...};
  }(std::make_integer_sequence<int, kHigh>());
}

// By vectors of a panel and rows, each counted from 1.
template <typename T>
constexpr std::array<std::array<RunTile<T>, kHigh>, kVectors> kTiles{
#ifdef CPU_CAPABILITY_AVX512
    tiles_of<T, 1>(), tiles_of<T, 2>(), tiles_of<T, 3>(), tiles_of<T, 4>()};
#else
    tiles_of<T, 1>(), tiles_of<T, 2>(), tiles_of<T, 3>()};
#endif

template <typename T>
constexpr int64_t kWidth = Vec<T>::size();
template <typename T>
constexpr int64_t kPanel = kVectors * kWidth<T>;
constexpr int64_t kSlice = 128;  // rows of a panel that stay in the first cache
constexpr int64_t kWorthPacking = 4;

// All rows of A pass by one slice of the panel before the next slice is read.
template <typename T>
void run_panel(Tile<T> tile, int64_t inner, int64_t rows, int64_t vectors) {
  const int64_t tiles = (rows + kHigh - 1) / kHigh, row = vectors * kWidth<T>;  // of the slice
  const Tile<T> panel = tile;
  for (int64_t k = 0; k < inner; k += kSlice) {
    tile.inner = std::min(kSlice, inner - k);
    tile.b = panel.b + k * row;
    tile.ahead = reinterpret_cast<const char*>(tile.b + tile.inner * row);
    tile.step = row * static_cast<int64_t>(sizeof(T)) / tiles;
    const Rows<const T> start = k == 0 ? panel.from : Rows<const T>{panel.to.data, panel.to.stride};
    for (int64_t i = 0, m = 0; i < tiles; i++) {
      const int64_t high = (rows - m + tiles - i - 1) / (tiles - i);  // as equal as can be
      tile.a.data = panel.a.data + m * panel.a.stride + k;
      tile.from = {start.data == nullptr ? nullptr : start.data + m * start.stride, start.stride};
      tile.to.data = panel.to.data + m * panel.to.stride;
      kTiles<T>[vectors - 1][high - 1](tile);
      tile.ahead += tile.step * tile.inner;
      m += high;
    }
  }
}

// to += d' a, as `products` of their parts, which `memory` has room for.
void add_rounded(
    float* to, Matrix<float> d, Matrix<float> a, Products products, const Tensor& memory) {
  const int64_t of_d = d.rows * d.columns, of_a = a.rows * a.columns;
  at::BFloat16* const rounded = memory.data_ptr<at::BFloat16>();
  const Parts<at::BFloat16> left{rounded, rounded + of_d + of_a};
  const Parts<at::BFloat16> right = left.at(of_d);
  round_rows(d.data, left, of_d, products);
  round_rows(a.data, right, of_a, products);
  const int m = static_cast<int>(a.columns), n = static_cast<int>(d.columns);
  const int k = static_cast<int>(d.rows);
  const float one = 1;  // column-major, so to' += a' d
  each_product(left, right, products, [&](const at::BFloat16* of_left, const at::BFloat16* of_right) {
    gemm_bf16bf16f32_(
        "N", "T", &m, &n, &k, &one, of_right, &m, of_left, &n, &one, to, &m);
  });
}

}  // namespace

template <typename T>
Weight<T>::Weight(Matrix<T> b, int64_t uses, Products products)
    : plain_(b), inner_(b.height()), width_(b.width()) {
  if (uses < kWorthPacking) return;
  if constexpr (std::is_same_v<T, float>) {
    if (products.narrow > 0 && std::min(inner_, width_) >= kWorthTiles) {
      narrow_ = std::make_shared<const Bfloat16Weight>(b, products);
      return;
    }
  }
  const int64_t vectors = (width_ + kWidth<T> - 1) / kWidth<T>;
  const int64_t panels = (width_ + kPanel<T> - 1) / kPanel<T>;
  memory_ = empty({vectors * kWidth<T> * inner_}, c10::CppTypeToScalarType<T>::value);
  T* const packed = memory_.template data_ptr<T>();
  at::parallel_for(0, panels, 1, [&](int64_t low, int64_t high) {
    for (int64_t p = low; p < high; p++) pack(p * kPanel<T>, packed + p * kPanel<T> * inner_);
  });
}

template <typename T>
int64_t Weight<T>::parts() const {
  return memory_.defined() ? (width_ + kPanel<T> - 1) / kPanel<T> : 1;
}

template <typename T>
void Weight<T>::multiply(
    int64_t rows, const T* a, Rows<const T> from, T* to, Columns of, const WeightGradient<T>* taker,
    int64_t at) const {
  if constexpr (std::is_same_v<T, float>) {
    const TileGradient* const tiles = taker == nullptr ? nullptr : taker->tiles_.get();
    if (narrow_) return of.index > 0 ? void() : narrow_->multiply(rows, a, from, to, tiles, at);
  }
  if (!memory_.defined()) {
    if (of.index > 0) return;
    for (int64_t m = 0; from.data != nullptr && m < rows; m++) {
      std::memmove(to + m * width_, from.data + m * from.stride, width_ * sizeof(T));
    }
    return lnrnn::multiply(to, Matrix<T>{a, rows, inner_}, plain_, from.data != nullptr);
  }
  const T* const packed = memory_.template const_data_ptr<T>();
  const int64_t first = parts() * of.index / of.count, end = parts() * (of.index + 1) / of.count;
  for (int64_t n = first * kPanel<T>; n < std::min(width_, end * kPanel<T>); n += kPanel<T>) {
    const Rows<const T> start{from.data == nullptr ? nullptr : from.data + n, from.stride};
    const int64_t columns = std::min(kPanel<T>, width_ - n);
    const int64_t vectors = (columns + kWidth<T> - 1) / kWidth<T>;
    const int64_t last = columns - (vectors - 1) * kWidth<T>;
    run_panel<T>(
        {{a, inner_}, packed + n * inner_, 0, start, {to + n, width_}, last, nullptr, 0}, inner_, rows,
        vectors);
  }
}

template <typename T>
void Weight<T>::pack(int64_t n, T* panel) const {
  const Matrix<T> b = plain_;
  const int64_t columns = std::min(kPanel<T>, width_ - n);
  const int64_t row = (columns + kWidth<T> - 1) / kWidth<T> * kWidth<T>;
  if (!b.transposed) {
    for (int64_t k = 0; k < inner_; k++) {
      std::memcpy(panel + k * row, b.data + k * b.columns + n, columns * sizeof(T));
    }
    return;
  }
  constexpr int side = static_cast<int>(kWidth<T>);  // of squares that torch transposes in registers, if it can
  constexpr int64_t block = 64 / sizeof(T);          // so that lines read are used up
  for (int64_t k = 0; k < inner_; k += block) {
    const int64_t stop = std::min(k + block, inner_);
    for (int64_t j = 0; j < columns; j += side) {
      for (int64_t i = k; i < stop; i += side) {
        const int high = static_cast<int>(std::min<int64_t>(side, columns - j));
        const int wide = static_cast<int>(std::min<int64_t>(side, stop - i));
        const T* const from = b.data + (n + j) * b.columns + i;
        T* const to = panel + i * row + j;
        if (high == side && wide == side) {
          at::vec::transpose_mxn<T, side, side>(from, b.columns, to, row);
        } else {
          at::vec::transpose_mxn<T>(from, b.columns, to, row, high, wide);
        }
      }
    }
  }
}

template <typename T>
WeightGradient<T>::WeightGradient(
    T* to, int64_t height, int64_t width, int64_t most, Products products, const Weight<T>* hands)
    : to_(to), height_(height), width_(width), products_(products) {
  if (!std::is_same_v<T, float> || products.narrow == 0 || to == nullptr) return;
  if (std::min(height, width) < kWorthTiles) return;
  if (products.by != Products::onednn) {
    tiles_ = std::make_shared<const TileGradient>(height, width, most, products);
    handed_ = hands != nullptr && hands->rounds();
  } else if (gemm_bf16bf16f32_ != nullptr) {
    rounded_ = empty({products.parts() * most * (height + width)}, at::kBFloat16);
  }
}

template <typename T>
void WeightGradient<T>::add(int64_t rows, const T* d, const T* a) const {
  if (!wanted()) return;
  if constexpr (std::is_same_v<T, float>) {
    if (tiles_) {
      if (!handed_) tiles_->round(rows, d);
      return tiles_->add(to_, rows, a);
    }
    if (rounded_.defined()) {
      return add_rounded(to_, {d, rows, height_}, {a, rows, width_}, products_, rounded_);
    }
  }
  multiply(to_, Matrix<T>{d, rows, height_}.t(), {a, rows, width_}, true);
}

template class Weight<float>;
template class Weight<double>;
template class WeightGradient<float>;
template class WeightGradient<double>;

}  // namespace lnrnn
