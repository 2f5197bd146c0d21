// The transforms of Winograd's minimal filtering (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
// 2016): the m by m outputs of a tile d and a filter g of r by r weights are
//     A' [(G g G') . (B' d B)] A
// with the matrices below. Between `spread`, which makes G g G' or B' d B, and `gather`, which makes A' [..] A, the
// caller multiplies (m + r - 1)^2 pairs of matrices over all tiles and channels, one pair for each plane. `overlap` is
// the adjoint of `spread`, for the gradient of the images. Transforms are in float, planes in the maps' precision.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

using at::Tensor;

namespace {

#ifdef __AVX512F__
constexpr int wide = 16;
#else
constexpr int wide = 8;
#endif
constexpr int multiple = 16;  // of channels, so that a map's pixels are whole vectors
constexpr int64_t most_zeros = 1 << 15;  // around maps, so that no size can overflow
using Vec = float __attribute__((vector_size(4 * wide)));
using Bits = uint32_t __attribute__((vector_size(4 * wide)));
using Halves = uint16_t __attribute__((vector_size(2 * wide)));

inline Vec load(const float* from) {
  Vec value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

inline void store(float* to, Vec value) { std::memcpy(to, &value, sizeof value); }

inline Vec load(const c10::BFloat16* from) {
  Halves high;
  std::memcpy(&high, from, sizeof high);
  return reinterpret_cast<Vec>(__builtin_convertvector(high, Bits) << 16);
}

// Rounded to nearest. What comes from bfloat16 and is no number stays so: it has no lower digits that could carry.
inline void store(c10::BFloat16* to, Vec value) {
  const Bits bits = reinterpret_cast<Bits>(value);
  const Halves high = __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, Halves);
  std::memcpy(to, &high, sizeof high);
}

template <int rows, int cols>
struct Table {
  double at[rows][cols];
};

template <int rows, int cols>
constexpr Table<cols, rows> transposed(const Table<rows, cols>& table) {
  Table<cols, rows> found = {};
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < cols; ++j) found.at[j][i] = table.at[i][j];
  return found;
}

// Of m outputs and r weights: `images` is B', `filters` is G, `outputs` is A'. After Toom and Cook: a product of
// polynomials is one of their values at m + r - 2 points and infinity. The fewest digits are lost with points near one,
// in pairs of either sign: with 0, 3/4, -3/4, 3/2 and -3/2 less than half of what 0, 1, -1, 2 and -2 lose.
template <int m, int r>
struct Tile;

template <>
struct Tile<2, 3> {  // at 0, 1 and -1
  static constexpr Table<4, 4> images = {{{-1, 0, 1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, -1, 0, 1}}};
  static constexpr Table<4, 3> filters = {{{-1, 0, 0}, {.5, .5, .5}, {.5, -.5, .5}, {0, 0, 1}}};
  static constexpr Table<2, 4> outputs = {{{1, 1, 1, 0}, {0, 1, -1, 1}}};
};

constexpr Table<6, 6> images_of_five_points = {{
    {81 / 64., 0, -45 / 16., 0, 1, 0},
    {0, -27 / 16., -9 / 4., 3 / 4., 1, 0},
    {0, 27 / 16., -9 / 4., -3 / 4., 1, 0},
    {0, -27 / 32., -9 / 16., 3 / 2., 1, 0},
    {0, 27 / 32., -9 / 16., -3 / 2., 1, 0},
    {0, 81 / 64., 0, -45 / 16., 0, 1},
}};

template <>
struct Tile<4, 3> {
  static constexpr Table<6, 6> images = images_of_five_points;
  static constexpr Table<6, 3> filters = {{
      {64 / 81., 0, 0},
      {-128 / 243., -32 / 81., -8 / 27.},
      {-128 / 243., 32 / 81., -8 / 27.},
      {32 / 243., 16 / 81., 8 / 27.},
      {32 / 243., -16 / 81., 8 / 27.},
      {0, 0, 1},
  }};
  static constexpr Table<4, 6> outputs = {{
      {1, 1, 1, 1, 1, 0},
      {0, 3 / 4., -3 / 4., 3 / 2., -3 / 2., 0},
      {0, 9 / 16., 9 / 16., 9 / 4., 9 / 4., 0},
      {0, 27 / 64., -27 / 64., 27 / 8., -27 / 8., 1},
  }};
};

template <>
struct Tile<2, 5> {
  static constexpr Table<6, 6> images = images_of_five_points;
  static constexpr Table<6, 5> filters = {{
      {64 / 81., 0, 0, 0, 0},
      {-128 / 243., -32 / 81., -8 / 27., -2 / 9., -1 / 6.},
      {-128 / 243., 32 / 81., -8 / 27., 2 / 9., -1 / 6.},
      {32 / 243., 16 / 81., 8 / 27., 4 / 9., 2 / 3.},
      {32 / 243., -16 / 81., 8 / 27., -4 / 9., 2 / 3.},
      {0, 0, 0, 0, 1},
  }};
  static constexpr Table<2, 6> outputs = {{{1, 1, 1, 1, 1, 0}, {0, 3 / 4., -3 / 4., 3 / 2., -3 / 2., 1}}};
};

// out = table * in, of numbers that lie `step` apart. Only what the table holds becomes code.
template <const auto& table, int rows, int cols>
__attribute__((always_inline)) inline void line(const Vec* in, Vec* out, int step, int to) {
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
    Vec sum = {};
    bool first = true;
#pragma GCC unroll 8
    for (int k = 0; k < cols; ++k) {
      const float c = table.at[i][k];
      if (c == 0) continue;
      const Vec x = in[k * step];
      if (first)
        sum = c == 1 ? x : c * x;
      else
        sum = c == 1 ? sum + x : c == -1 ? sum - x : sum + c * x;
      first = false;
    }
    out[i * to] = sum;
  }
}

// out (rows, rows) = table * in (cols, cols) * table'
template <const auto& table, int rows, int cols>
__attribute__((always_inline)) inline void both(const Vec* in, Vec* out) {
  Vec half[rows * cols];
#pragma GCC unroll 8
  for (int j = 0; j < cols; ++j) line<table, rows, cols>(in + j, half + j, cols, cols);
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) line<table, rows, cols>(half + i * cols, out + i * rows, 1, 1);
}

// What is handed in is checked before anything is read or written.

const Tensor& checked(const Tensor& maps) {
  TORCH_CHECK(maps.dim() == 4 && maps.is_cpu() && maps.is_contiguous(),
              "maps must be contiguous and of a multiple of ", multiple, " channels, (N, H, W, C) on the CPU");
  return maps;
}

void check_zeros(int64_t down, int64_t right) {
  TORCH_CHECK(0 <= down && down <= most_zeros && 0 <= right && right <= most_zeros, "maps can't have ", down, " and ",
              right, " zeros before them");
}

void check_planes(const Tensor& planes, at::IntArrayRef sizes) {
  TORCH_CHECK(planes.is_cpu() && planes.is_contiguous() && planes.sizes() == sizes,
              "planes don't fit the maps: they must be ", sizes, ", contiguous, not ", planes.sizes());
}

// Maps (N, H, W, C) in rows of tiles, of which a row is one piece of work.
struct Maps {
  int64_t n, h, w, c, high, across;
  Maps(const Tensor& maps, int64_t high_, int64_t across_)
      : n(checked(maps).size(0)), h(maps.size(1)), w(maps.size(2)), c(maps.size(3)), high(high_), across(across_) {
    TORCH_CHECK(c % multiple == 0, "maps must be contiguous and of a multiple of ", multiple, " channels");
    TORCH_CHECK(high > 0 && across > 0, "there must be tiles, not ", high, " by ", across);
  }
  int64_t tiles() const { return n * high * across; }
  template <typename F>  // f(image, row of tiles, column, number of the tile)
  void each_tile(F f) const {
    at::parallel_for(0, n * high, 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        for (int64_t j = 0; j < across; ++j) f(row / high, row % high, j, row * across + j);
    });
  }
};

// From maps (N, H, W, C) with `down` and `right` zeros before them: (rows * rows, N * high * across, C), of each tile
// of `side` by `side` numbers, of which the next starts after `step`, table * tile * table'
template <typename T, const auto& table, int rows, int side, int step>
Tensor spread(const Tensor& maps, int64_t down, int64_t right, int64_t high, int64_t across) {
  const Maps m(maps, high, across);
  check_zeros(down, right);
  TORCH_CHECK(high <= m.h + 2 * down && across <= m.w + 2 * right, "maps have no ", high, " by ", across, " tiles");
  // Planes of a power of two would compete for the same lines of a cache; in bfloat16 torch copies what has gaps.
  const int64_t plane = m.tiles() * m.c + (sizeof(T) == sizeof(float) ? 16 : 0);
  const Tensor planes = at::empty({rows * rows, plane}, maps.options());
  const std::vector<T> zeros(m.c);
  const T* all = maps.data_ptr<T>();
  T* planes_ = planes.data_ptr<T>();
  m.each_tile([&](int64_t image, int64_t i, int64_t j, int64_t tile) {
    const T* from[side * side];
    for (int a = 0; a < side; ++a)
      for (int b = 0; b < side; ++b) {
        const int64_t y = i * step + a - down, x = j * step + b - right;
        const bool inside = 0 <= y && y < m.h && 0 <= x && x < m.w;
        from[a * side + b] = inside ? all + ((image * m.h + y) * m.w + x) * m.c : zeros.data();
      }
    T* to = planes_ + tile * m.c;
    for (int64_t q = 0; q < m.c; q += wide) {
      Vec in[side * side], out[rows * rows];
#pragma GCC unroll 64
      for (int p = 0; p < side * side; ++p) in[p] = load(from[p] + q);
      both<table, rows, side>(in, out);
#pragma GCC unroll 64
      for (int p = 0; p < rows * rows; ++p) store(to + p * plane + q, out[p]);
    }
  });
  return planes.narrow(1, 0, m.tiles() * m.c).view({rows * rows, m.tiles(), m.c});
}

// The other way: each tile's table * planes * table', `rows` by `rows` numbers of maps (N, H, W, C), and a bias added
template <typename T, typename U, const auto& table, int rows, int side>
void gather(const Tensor& planes, const Tensor& maps, const std::optional<Tensor>& bias, int64_t high, int64_t across) {
  const Maps m(maps, high, across);
  const int64_t plane = m.tiles() * m.c;
  TORCH_CHECK(high <= m.h && m.h <= high * rows && across <= m.w && m.w <= across * rows, "maps aren't made of ", high,
              " by ", across, " tiles");
  check_planes(planes, {side * side, m.tiles(), m.c});
  TORCH_CHECK(!bias || (bias->is_cpu() && bias->is_contiguous() && bias->sizes() == at::IntArrayRef({m.c})),
              "the bias must be ", m.c, " numbers");
  const std::vector<float> zeros(m.c);
  const float* extra = bias ? bias->data_ptr<float>() : zeros.data();
  const T* planes_ = planes.data_ptr<T>();
  U* all = maps.data_ptr<U>();
  m.each_tile([&](int64_t image, int64_t i, int64_t j, int64_t tile) {
    const T* from = planes_ + tile * m.c;
    const int64_t height = std::min<int64_t>(rows, m.h - i * rows), width = std::min<int64_t>(rows, m.w - j * rows);
    U* to = all + ((image * m.h + i * rows) * m.w + j * rows) * m.c;
    for (int64_t q = 0; q < m.c; q += wide) {
      Vec in[side * side], out[rows * rows];
#pragma GCC unroll 64
      for (int p = 0; p < side * side; ++p) in[p] = load(from + p * plane + q);
      both<table, rows, side>(in, out);
#pragma GCC unroll 64
      for (int p = 0; p < rows * rows; ++p)
        if (p / rows < height && p % rows < width)
          store(to + (p / rows * m.w + p % rows) * m.c + q, out[p] + load(extra + q));
    }
  });
}

// The adjoint of `spread`: to maps (N, H, W, C) each tile's table * planes * table', added up where tiles overlap
template <typename T, const auto& table, int side, int step>
void overlap(const Tensor& planes, const Tensor& maps, int64_t down, int64_t right, int64_t high, int64_t across) {
  const Maps m(maps, high, across);
  check_zeros(down, right);
  TORCH_CHECK(high <= m.h + 2 * down && across <= m.w + 2 * right && (high - 1) * step + side >= m.h + down,
              "maps aren't made of ", high, " by ", across, " tiles");
  const int64_t plane = m.tiles() * m.c, width = std::max((across - 1) * step + side, m.w + right), row = width * m.c;
  check_planes(planes, {side * side, m.tiles(), m.c});
  const T* planes_ = planes.data_ptr<T>();
  T* all = maps.data_ptr<T>();
  at::parallel_for(0, m.n, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> sums(side * row);  // of as many rows of a map as a tile has, in turn
    for (int64_t image = begin; image < end; ++image)
      for (int64_t i = 0; i < high; ++i) {
        float* rows[side];
        for (int a = 0; a < side; ++a) rows[a] = sums.data() + (i * step + a) % side * row;
        for (int64_t j = 0; j < across; ++j)
          for (int64_t q = 0; q < m.c; q += wide) {
            const T* from = planes_ + ((image * high + i) * across + j) * m.c + q;
            Vec in[side * side], out[side * side];
#pragma GCC unroll 64
            for (int p = 0; p < side * side; ++p) in[p] = load(from + p * plane);
            both<table, side, side>(in, out);
#pragma GCC unroll 64
            for (int p = 0; p < side * side; ++p) {
              float* to = rows[p / side] + (j * step + p % side) * m.c + q;
              store(to, load(to) + out[p]);
            }
          }
        const int done = i + 1 < high ? step : side;  // rows that no further tile reaches
        for (int a = 0; a < done; ++a) {
          const int64_t y = i * step + a - down;
          T* to = all + (image * m.h + y) * m.w * m.c;
          if (0 <= y && y < m.h)
            for (int64_t q = 0; q < m.w * m.c; q += wide) store(to + q, load(rows[a] + right * m.c + q));
          std::fill_n(rows[a], row, 0.0f);
        }
      }
  });
}

enum What { images, gradients, filters };  // what is spread

// The transforms of a kind of tile; gradients of filters are in float
template <typename T, int m, int r>
struct Transforms {
  using Its = Tile<m, r>;
  static constexpr int p = m + r - 1;
  static constexpr auto of_images = transposed(Its::images);
  static constexpr auto of_outputs = transposed(Its::outputs);
  static constexpr auto of_filters = transposed(Its::filters);

  static Tensor spread_any(const Tensor& maps, int64_t what, int64_t down, int64_t right, int64_t high,
                           int64_t across) {
    switch (what) {
      case images: return spread<T, Its::images, p, p, m>(maps, down, right, high, across);
      case gradients: return spread<T, of_outputs, p, m, m>(maps, 0, 0, high, across);
      case filters: return spread<T, Its::filters, p, r, r>(maps, 0, 0, 1, 1);
      default: TORCH_CHECK(false, "images are spread (0), gradients (1) or filters (2), not ", what);
    }
  }
  static void gather_any(const Tensor& planes, const Tensor& maps, const std::optional<Tensor>& bias, bool filters,
                         int64_t high, int64_t across) {
    if (filters)
      gather<T, float, of_filters, r, p>(planes, maps, bias, 1, 1);
    else
      gather<T, T, Its::outputs, m, p>(planes, maps, bias, high, across);
  }
  static void overlap_any(const Tensor& planes, const Tensor& maps, int64_t down, int64_t right, int64_t high,
                          int64_t across) {
    overlap<T, of_images, p, m>(planes, maps, down, right, high, across);
  }
};

// f(the transforms of `m` outputs and `r` weights in the precision of a tensor)
template <typename F>
auto with_transforms(const Tensor& of, int64_t m, int64_t r, F f) {
  const auto type = of.scalar_type();
  const auto some = [&]<typename T>(T) {
    if (m == 2 && r == 3) return f(Transforms<T, 2, 3>());
    if (m == 4 && r == 3) return f(Transforms<T, 4, 3>());
    if (m == 2 && r == 5) return f(Transforms<T, 2, 5>());
    TORCH_CHECK(false, "no tiles of ", m, " outputs and ", r, " weights in ", type);
  };
  if (type == at::kFloat) return some(float());
  if (type == at::kBFloat16) return some(c10::BFloat16());
  TORCH_CHECK(false, "no tiles of ", m, " outputs and ", r, " weights in ", type);
}

Tensor spread_op(const Tensor& maps, int64_t m, int64_t r, int64_t what, int64_t down, int64_t right, int64_t high,
                 int64_t across) {
  return with_transforms(maps, m, r, [&](auto its) { return its.spread_any(maps, what, down, right, high, across); });
}

void gather_op(const Tensor& planes, const Tensor& maps, const std::optional<Tensor>& bias, int64_t m, int64_t r,
               bool filters, int64_t high, int64_t across) {
  with_transforms(planes, m, r, [&](auto its) { its.gather_any(planes, maps, bias, filters, high, across); });
}

void overlap_op(const Tensor& planes, const Tensor& maps, int64_t m, int64_t r, int64_t down, int64_t right,
                int64_t high, int64_t across) {
  with_transforms(planes, m, r, [&](auto its) { its.overlap_any(planes, maps, down, right, high, across); });
}

TORCH_LIBRARY(winograd, library) {
  library.def("spread", &spread_op);
  library.def("gather", &gather_op);
  library.def("overlap", &overlap_op);
}

}  // namespace
