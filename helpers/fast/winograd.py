"""Convolutions of a filter of 3 × 3 or 5 × 5 with a quarter to a half of the multiplications, compiled for the CPU:
in float32 all of them, in bfloat16 their gradients.

Winograd's minimal filtering (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016): the m × m
outputs of a tile d and a filter g of r × r weights are A' [(G g G') ⊙ (B' d B)] A, for which (m + r − 1)²
multiplications do, not m² r². Over all tiles and channels they are (m + r − 1)² products of matrices, one for each
plane: one of the numbers of each spread tile B' d B.

Spread tiles and products are in the precision of the maps, and the transforms in float32. So in bfloat16 a gradient
loses 2 % to rounding, where torch's own loses 0.2: much less than what a batch's gradient is off from that of all
images. The outputs, by which a network is judged, are torch's own.
"""

import functools
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

from helpers.fast.build import compiled, compiles

# Points at which the polynomials of a tile are multiplied; the last is infinity. The fewest digits are lost with points
# near one, in pairs of either sign: of these, less than half of what Lavin and Gray's 0, ±1, ±2 lose.
POINTS = {4: (0, 1, -1), 6: (0, Fraction(3, 4), -Fraction(3, 4), Fraction(3, 2), -Fraction(3, 2))}
TILES = ((2, 3), (4, 3), (2, 5))  # (m, r)
SMALL = 4  # outputs along a side up to which tiles of 3 × 3 filters have 2 in float32: few tiles make flat matrices
CHANNELS = 16  # of a multiple of it a map's pixels are whole vectors
TRANSFORMED = 2**21  # bytes at a time, on either side of the product: about what a core's cache holds
SUMMED = 256  # tiles over which a product sums, at least: each is added to all filters

KERNEL = r"""
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

template <int m, int r>
struct Tile;

TABLES

// out = table * in, of numbers that lie `step` apart. Only what the table holds becomes code.
template <const auto& table, int rows, int cols>
__attribute__((always_inline)) inline void line(const Vec* in, Vec* out, int step, int to) {
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
    Vec sum = {};
    bool first = true;
#pragma GCC unroll 8
    for (int k = 0; k < cols; ++k) {
      const float c = table[i][k];
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

// Maps (N, H, W, C) in rows of tiles, of which a row is one piece of work.
struct Maps {
  int64_t n, h, w, c, high, across;
  Maps(const Tensor& maps, int64_t high_, int64_t across_)
      : n(maps.size(0)), h(maps.size(1)), w(maps.size(2)), c(maps.size(3)), high(high_), across(across_) {
    TORCH_CHECK(maps.is_contiguous() && c % CHANNELS == 0,
                "maps must be contiguous and of a multiple of ", CHANNELS, " channels");
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
  TORCH_CHECK(planes.is_contiguous() && planes.numel() == side * side * plane, "planes don't fit the maps");
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
  const int64_t plane = m.tiles() * m.c, width = std::max((across - 1) * step + side, m.w + right), row = width * m.c;
  TORCH_CHECK(planes.is_contiguous() && planes.numel() == side * side * plane, "planes don't fit the maps");
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

// The transforms of a kind of tile, of which `what` or `of_filters` chooses one; gradients of filters are in float
template <typename T, int m, int r>
struct Transforms {
  using Tables = Tile<m, r>;
  static constexpr int p = m + r - 1;
  static Tensor spread_any(const Tensor& maps, int64_t what, int64_t down, int64_t right, int64_t high,
                           int64_t across) {
    switch (what) {
      case 0: return spread<T, Tables::images, p, p, m>(maps, down, right, high, across);
      case 1: return spread<T, Tables::gradients, p, m, m>(maps, 0, 0, high, across);
      default: return spread<T, Tables::filters, p, r, r>(maps, 0, 0, 1, 1);
    }
  }
  static void gather_any(const Tensor& planes, const Tensor& maps, const std::optional<Tensor>& bias, bool of_filters,
                         int64_t high, int64_t across) {
    if (of_filters)
      gather<T, float, Tables::filter_gradients, r, p>(planes, maps, bias, 1, 1);
    else
      gather<T, T, Tables::outputs, m, p>(planes, maps, bias, high, across);
  }
  static void overlap_any(const Tensor& planes, const Tensor& maps, int64_t down, int64_t right, int64_t high,
                          int64_t across) {
    overlap<T, Tables::image_gradients, p, m>(planes, maps, down, right, high, across);
  }
};

#define DISPATCH(of, call)             \
  const auto type = of.scalar_type(); \
  CASES                               \
  TORCH_CHECK(false, "no tiles of ", m, " outputs and ", r, " weights in ", type);

Tensor spread_op(const Tensor& maps, int64_t m, int64_t r, int64_t what, int64_t down, int64_t right, int64_t high,
                 int64_t across) {
  DISPATCH(maps, spread_any(maps, what, down, right, high, across))
}

void gather_op(const Tensor& planes, const Tensor& maps, const std::optional<Tensor>& bias, int64_t m, int64_t r,
               bool of_filters, int64_t high, int64_t across) {
  DISPATCH(planes, gather_any(planes, maps, bias, of_filters, high, across))
}

void overlap_op(const Tensor& planes, const Tensor& maps, int64_t m, int64_t r, int64_t down, int64_t right,
                int64_t high, int64_t across) {
  DISPATCH(planes, overlap_any(planes, maps, down, right, high, across))
}

TORCH_LIBRARY(winograd, library) {
  library.def("spread", &spread_op);
  library.def("gather", &gather_op);
  library.def("overlap", &overlap_op);
}

}  // namespace
"""

IMAGES, GRADIENTS, FILTERS = range(3)  # what is spread


def matrices(m: int, r: int) -> tuple[list[list[Fraction]], ...]:
    """A' (m, p), G (p, r) and B' (p, p) of p = m + r − 1 numbers: A' [(G g) ⊙ (B' d)] is y with y[i] = Σ g[j] d[i + j].

    After Toom and Cook: a product of polynomials is one of their values at p − 1 points and infinity.
    """
    points = [Fraction(point) for point in POINTS[m + r - 1]]
    others = [points[:place] + points[place + 1 :] for place in range(len(points))]
    scales = [_product([point - other for other in rest]) for point, rest in zip(points, others)]
    outputs = [[point**i for point in points] + [Fraction(i == m - 1)] for i in range(m)]
    filters = [[point**j / scale for j in range(r)] for point, scale in zip(points, scales)]
    filters.append([Fraction(j == r - 1) for j in range(r)])
    return outputs, filters, [_polynomial(rest) + [Fraction(0)] for rest in others] + [_polynomial(points)]


def _product(factors: list[Fraction]) -> Fraction:
    return functools.reduce(Fraction.__mul__, factors, Fraction(1))


def _polynomial(roots: list[Fraction]) -> list[Fraction]:
    """The coefficients of Π (x − root), that of 1 first."""
    found = [Fraction(1)]
    for root in roots:
        found = [below - root * same for below, same in zip([Fraction(0), *found], [*found, Fraction(0)])]
    return found


def _tables(m: int, r: int) -> str:
    """The transforms of a kind of tile, in C++."""
    outputs, filters, images = matrices(m, r)
    tables = {
        "images": images, "outputs": outputs, "filters": filters,
        "image_gradients": [*zip(*images)], "gradients": [*zip(*outputs)], "filter_gradients": [*zip(*filters)],
    }  # fmt: skip
    lines = []
    for name, table in tables.items():
        rows = ", ".join("{" + ", ".join(repr(float(number)) for number in row) + "}" for row in table)
        lines.append(f"  static constexpr double {name}[{len(table)}][{len(table[0])}] = {{{rows}}};")
    return "\n".join([f"template <>\nstruct Tile<{m}, {r}> {{", *lines, "};"])


@functools.cache
def kernel():
    """The compiled `KERNEL`. Raises RuntimeError where it can't be compiled."""
    cases = " ".join(
        f"if (m == {m} && r == {r} && type == at::{kind}) return Transforms<{name}, {m}, {r}>::call;"
        for m, r in TILES for kind, name in (("kFloat", "float"), ("kBFloat16", "c10::BFloat16"))
    )  # fmt: skip
    tables = "\n".join(_tables(m, r) for m, r in TILES)
    source = KERNEL.replace("CHANNELS", str(CHANNELS)).replace("TABLES", tables).replace("CASES", cases)
    return compiled("winograd", source)


def available() -> bool:
    """Whether this machine has a compiler; compiles, once."""
    return compiles(kernel)


# ------------------------------------------------------------------------------------------ the function


def fits(images: Tensor, layer: nn.Conv2d) -> bool:
    """Whether `convolve` computes the layer, which has one group, no dilation and zeros around, on these images: in
    float32, or in bfloat16 by autocast."""
    half = torch.is_autocast_enabled("cpu")
    kinds = (torch.float32, torch.bfloat16) if half else (torch.float32,)
    if images.device.type != "cpu" or images.dtype not in kinds or layer.weight.dtype != torch.float32:
        return False
    if not len(images) or layer.in_channels % CHANNELS or layer.out_channels % CHANNELS:
        return False
    (high, wide), (step, other) = layer.kernel_size, layer.stride
    if high != wide or step != other or any(size % step for size in (*layer.padding, *images.shape[2:])):
        return False
    if half and step > 1:  # torch's own outputs would be those of more channels and weights
        return False
    r, sides = -(-high // step), images.shape[2:]
    outputs = [(side + 2 * pad) // step - r + 1 for side, pad in zip(sides, layer.padding)]
    return r in (3, 5) and min(outputs) > 2  # for one tile `faster` makes as many products, and needs no transforms


def convolve(images: Tensor, weight: Tensor, bias: Tensor | None, stride, padding) -> Tensor:
    """The convolution of maps (N, C, H, W) with filters (O, C, r, r), of what `fits`; channels-last in memory."""
    maps, filters, step = images.permute(0, 2, 3, 1), weight.permute(0, 2, 3, 1), stride[0]
    if step > 1:
        short = -filters.shape[1] % step
        maps, filters = _phases(maps, step), _phases(nn.functional.pad(filters, [0, 0, 0, short, 0, short]), step)
    padding = tuple(pad // step for pad in padding)
    return _Convolve.apply(maps.contiguous(), filters.contiguous(), bias, padding).permute(0, 3, 1, 2)


def _phases(maps: Tensor, step: int) -> Tensor:
    """Maps (N, H, W, C) as (N, H / step, W / step, step² · C): each channel once for each place in a square of `step`.

    Of these a convolution of stride `step` is one of stride 1.
    """
    count, height, width, channels = maps.shape
    squares = maps.reshape(count, height // step, step, width // step, step, channels)
    return squares.permute(0, 1, 3, 2, 4, 5).reshape(count, height // step, width // step, -1)


class _Convolve(torch.autograd.Function):
    """The convolution of maps (N, H, W, C) with filters (O, r, r, C): (N, H', W', O)."""

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)  # only where autocast is on
    def forward(ctx, maps, filters, bias, padding):
        ctx.save_for_backward(maps, filters)
        ctx.padding, ctx.has_bias = padding, bias is not None
        if maps.dtype == torch.bfloat16:
            first = (each.permute(0, 3, 1, 2) for each in (maps, filters))
            return nn.functional.conv2d(*first, bias, padding=padding).permute(0, 2, 3, 1)
        return _outputs(maps, filters, bias, padding)

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cpu")
    def backward(ctx, gradient):
        of_maps, of_filters, of_bias = ctx.needs_input_grad[:3]
        gradient = gradient.contiguous()
        return (
            *_gradients(*ctx.saved_tensors, gradient, ctx.padding, of_maps, of_filters),
            gradient.sum((0, 1, 2)) if ctx.has_bias and of_bias else None,
            None,
        )  # fmt: skip


class _Tiling:
    """Tiles of `m` by `m` outputs, for maps of outputs (H, W) and filters of `r` by `r`, of a `dtype`."""

    def __init__(self, sides, r: int, channels: int, dtype: torch.dtype):
        small = dtype == torch.float32 and min(sides) <= SMALL
        self.m, self.r = 2 if r == 5 or small else 4, r
        self.high, self.across = (-(-side // self.m) for side in sides)
        self.planes = (self.m + r - 1) ** 2
        self.tiles = self.high * self.across  # of an image
        self.count = max(1, TRANSFORMED // (self.planes * self.tiles * channels * dtype.itemsize))  # images at a time

    def spread(self, maps: Tensor, what: int, padding=(0, 0)) -> Tensor:
        """(planes, tiles, channels) of maps (N, H, W, channels)."""
        return kernel().spread(maps, self.m, self.r, what, *padding, self.high, self.across)

    def gather(self, planes: Tensor, maps: Tensor, of_filters: bool, bias: Tensor | None = None) -> None:
        """Fills maps (N, H, W, channels) from (planes, tiles, channels)."""
        kernel().gather(planes, maps, bias, self.m, self.r, of_filters, self.high, self.across)

    def overlap(self, planes: Tensor, maps: Tensor, padding) -> None:
        """Fills maps (N, H, W, channels) from (planes, tiles, channels): what `spread` is the adjoint of."""
        kernel().overlap(planes, maps, self.m, self.r, *padding, self.high, self.across)


def _outputs(maps: Tensor, filters: Tensor, bias: Tensor | None, padding) -> Tensor:
    """(N, H', W', O) of maps (N, H, W, C) and filters (O, r, r, C)."""
    sides = [side + 2 * pad - filters.shape[1] + 1 for side, pad in zip(maps.shape[1:], padding)]
    tiling = _Tiling(sides, filters.shape[1], max(len(filters), maps.shape[3]), maps.dtype)
    spread, outputs = tiling.spread(filters, FILTERS).transpose(1, 2), maps.new_empty(len(maps), *sides, len(filters))
    for some, theirs in zip(maps.split(tiling.count), outputs.split(tiling.count)):
        tiling.gather(tiling.spread(some, IMAGES, padding) @ spread, theirs, False, bias)
    return outputs


def _gradients(
    maps, filters, gradient, padding, of_maps: bool, of_filters: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Of maps (N, H, W, C) and filters (O, r, r, C), where wanted, from the gradient (N, H', W', O) of the outputs."""
    tiling = _Tiling(gradient.shape[1:3], filters.shape[1], max(len(filters), maps.shape[3]), maps.dtype)
    count = max(tiling.count, SUMMED // tiling.tiles)
    given, found = torch.empty_like(maps) if of_maps else None, None
    spread, total = tiling.spread(filters, FILTERS) if of_maps else None, None
    for place, theirs in enumerate(gradient.split(count)):
        some, outer = slice(place * count, (place + 1) * count), tiling.spread(theirs, GRADIENTS)
        if of_maps:
            tiling.overlap(outer @ spread, given[some], padding)
        if of_filters:
            total = _plus(total, outer.transpose(1, 2), tiling.spread(maps[some], IMAGES, padding))
    if of_filters:
        found = torch.empty_like(filters, dtype=torch.float32)
        tiling.gather(total, found, True)
    return given, found


def _plus(total: Tensor | None, one: Tensor, other: Tensor) -> Tensor:
    """total + one @ other, in float32 if there is a total: in bfloat16 each sum would be rounded."""
    if total is None:
        return one @ other
    return total.baddbmm_(one, other) if one.dtype == torch.float32 else total.float().add_(one @ other)
