"""Convolutions of a filter of 3 × 3 or 5 × 5 with a quarter to a half of the multiplications, compiled for the CPU.

Winograd's minimal filtering (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016): the m × m
outputs of a tile d and a filter g of r × r weights are A' [(G g G') ⊙ (B' d B)] A, for which (m + r − 1)²
multiplications do, not m² r². Over all tiles and channels they are (m + r − 1)² products of matrices, one for each
plane: one of the numbers of each spread tile B' d B.
"""

import functools
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from helpers.dessilbi import compiled, compiles

# Points at which the polynomials of a tile are multiplied; the last is infinity. The fewest digits are lost with points
# near one, in pairs of either sign: of these, less than half of what Lavin and Gray's 0, ±1, ±2 lose.
POINTS = {4: (0, 1, -1), 6: (0, Fraction(3, 4), -Fraction(3, 4), Fraction(3, 2), -Fraction(3, 2))}
TILES = ((2, 3), (4, 3), (2, 5))  # (m, r)
SMALL = 4  # outputs along a side up to which tiles of 3 × 3 filters have 2: few tiles make flat matrices
WIDE = 8  # channels in a vector of the kernel
TRANSFORMED = 2**19  # numbers at a time, on either side of the product: 2 MiB, about what a core's cache holds

KERNEL = r"""
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <vector>

using at::Tensor;

namespace {

constexpr int wide = WIDE;
using Vec = float __attribute__((vector_size(4 * wide), aligned(4)));

inline Vec load(const float* from) { return *reinterpret_cast<const Vec*>(from); }
inline void store(float* to, Vec value) { *reinterpret_cast<Vec*>(to) = value; }

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
    TORCH_CHECK(maps.is_contiguous() && maps.scalar_type() == at::kFloat && c % wide == 0,
                "maps must be contiguous, of float and of a multiple of ", wide, " channels");
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
template <const auto& table, int rows, int side, int step>
Tensor spread(const Tensor& maps, int64_t down, int64_t right, int64_t high, int64_t across) {
  const Maps m(maps, high, across);
  // Planes of a power of two would compete for the same lines of a cache.
  const int64_t plane = m.tiles() * m.c + 16;
  const Tensor planes = at::empty({rows * rows, plane}, maps.options());
  const std::vector<float> zeros(m.c);
  const float* all = maps.data_ptr<float>();
  float* planes_ = planes.data_ptr<float>();
  m.each_tile([&](int64_t image, int64_t i, int64_t j, int64_t tile) {
    const float* from[side * side];
    for (int a = 0; a < side; ++a)
      for (int b = 0; b < side; ++b) {
        const int64_t y = i * step + a - down, x = j * step + b - right;
        const bool inside = 0 <= y && y < m.h && 0 <= x && x < m.w;
        from[a * side + b] = inside ? all + ((image * m.h + y) * m.w + x) * m.c : zeros.data();
      }
    float* to = planes_ + tile * m.c;
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
template <const auto& table, int rows, int side>
void gather(const Tensor& planes, const Tensor& maps, const std::optional<Tensor>& bias, int64_t high, int64_t across) {
  const Maps m(maps, high, across);
  const int64_t plane = m.tiles() * m.c;
  TORCH_CHECK(planes.is_contiguous() && planes.numel() == side * side * plane, "planes don't fit the maps");
  const std::vector<float> zeros(m.c);
  const float* extra = bias ? bias->data_ptr<float>() : zeros.data();
  const float* planes_ = planes.data_ptr<float>();
  float* all = maps.data_ptr<float>();
  m.each_tile([&](int64_t image, int64_t i, int64_t j, int64_t tile) {
    const float* from = planes_ + tile * m.c;
    const int64_t height = std::min<int64_t>(rows, m.h - i * rows), width = std::min<int64_t>(rows, m.w - j * rows);
    float* to = all + ((image * m.h + i * rows) * m.w + j * rows) * m.c;
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

// The transforms of a kind of tile, of which `what` or `of_filters` chooses one
template <int m, int r>
struct Transforms {
  using T = Tile<m, r>;
  static constexpr int p = m + r - 1;
  static Tensor spread_any(const Tensor& maps, int64_t what, int64_t down, int64_t right, int64_t high,
                           int64_t across) {
    switch (what) {
      case 0: return spread<T::images, p, p, m>(maps, down, right, high, across);
      case 1: return spread<T::gradients, p, m, m>(maps, 0, 0, high, across);
      case 2: return spread<T::filters, p, r, r>(maps, 0, 0, 1, 1);
      default: return spread<T::turned, p, r, r>(maps, 0, 0, 1, 1);
    }
  }
  static void gather_any(const Tensor& planes, const Tensor& maps, const std::optional<Tensor>& bias, bool of_filters,
                         int64_t high, int64_t across) {
    if (of_filters)
      gather<T::filter_gradients, r, p>(planes, maps, bias, 1, 1);
    else
      gather<T::outputs, m, p>(planes, maps, bias, high, across);
  }
};

#define DISPATCH(call) \
  CASES                \
  TORCH_CHECK(false, "no tiles of ", m, " outputs and ", r, " weights");

Tensor spread_op(const Tensor& maps, int64_t m, int64_t r, int64_t what, int64_t down, int64_t right, int64_t high,
                 int64_t across) {
  DISPATCH(spread_any(maps, what, down, right, high, across))
}

void gather_op(const Tensor& planes, const Tensor& maps, const std::optional<Tensor>& bias, int64_t m, int64_t r,
               bool of_filters, int64_t high, int64_t across) {
  DISPATCH(gather_any(planes, maps, bias, of_filters, high, across))
}

TORCH_LIBRARY(winograd, library) {
  library.def("spread", &spread_op);
  library.def("gather", &gather_op);
}

}  // namespace
"""

IMAGES, GRADIENTS, FILTERS, TURNED = range(4)  # what is spread


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
        "images": images, "outputs": outputs, "gradients": [*zip(*outputs)],
        "filters": filters, "turned": [row[::-1] for row in filters], "filter_gradients": [*zip(*filters)],
    }  # fmt: skip
    lines = []
    for name, table in tables.items():
        rows = ", ".join("{" + ", ".join(repr(float(number)) for number in row) + "}" for row in table)
        lines.append(f"  static constexpr double {name}[{len(table)}][{len(table[0])}] = {{{rows}}};")
    return "\n".join([f"template <>\nstruct Tile<{m}, {r}> {{", *lines, "};"])


@functools.cache
def kernel():
    """The compiled `KERNEL`. Raises RuntimeError where it can't be compiled."""
    cases = " ".join(f"if (m == {m} && r == {r}) return Transforms<{m}, {r}>::call;" for m, r in TILES)
    tables = "\n".join(_tables(m, r) for m, r in TILES)
    return compiled("winograd", KERNEL.replace("WIDE", str(WIDE)).replace("TABLES", tables).replace("CASES", cases))


def available() -> bool:
    """Whether this machine has a compiler; compiles, once."""
    return compiles(kernel)


# ------------------------------------------------------------------------------------------ the function


def fits(images: Tensor, layer: nn.Conv2d) -> bool:
    """Whether `convolve` computes the layer, which has one group, no dilation and zeros around, on these images."""
    kinds = {images.dtype, layer.weight.dtype}
    if images.device.type != "cpu" or kinds != {torch.float32} or torch.is_autocast_enabled("cpu") or not len(images):
        return False
    if layer.in_channels % WIDE or layer.out_channels % WIDE:
        return False
    (high, wide), (step, other) = layer.kernel_size, layer.stride
    if high != wide or step != other or any(size % step for size in (*layer.padding, *images.shape[2:])):
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
    def forward(ctx, maps, filters, bias, padding):
        ctx.save_for_backward(maps, filters)
        ctx.padding, ctx.has_bias = padding, bias is not None
        return _outputs(maps, filters, bias, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        maps, filters = ctx.saved_tensors
        of_maps, of_filters, of_bias = ctx.needs_input_grad[:3]
        gradient, side = gradient.contiguous(), filters.shape[1]
        # The maps' is the gradient's convolution with the filters turned by half a turn, which has the rest of padding.
        rest = [side - 1 - pad for pad in ctx.padding]
        return (
            _outputs(gradient, filters, None, rest, turned=True) if of_maps else None,
            _filter_gradient(maps, gradient, side, ctx.padding) if of_filters else None,
            gradient.sum((0, 1, 2)) if ctx.has_bias and of_bias else None,
            None,
        )  # fmt: skip


class _Tiling:
    """Tiles of `m` by `m` outputs, for maps of outputs (H, W) and filters of `r` by `r`."""

    def __init__(self, sides, r: int, channels: int):
        self.m, self.r = 2 if r == 5 or min(sides) <= SMALL else 4, r
        self.high, self.across = (-(-side // self.m) for side in sides)
        self.planes = (self.m + r - 1) ** 2
        self.count = max(1, TRANSFORMED // (self.planes * self.high * self.across * channels))  # images at a time

    def spread(self, maps: Tensor, what: int, padding=(0, 0)) -> Tensor:
        """(planes, tiles, channels) of maps (N, H, W, channels)."""
        return kernel().spread(maps, self.m, self.r, what, *padding, self.high, self.across)

    def gather(self, planes: Tensor, maps: Tensor, of_filters: bool, bias: Tensor | None = None) -> None:
        """Fills maps (N, H, W, channels) from (planes, tiles, channels)."""
        kernel().gather(planes, maps, bias, self.m, self.r, of_filters, self.high, self.across)


def _outputs(maps: Tensor, filters: Tensor, bias: Tensor | None, padding, turned: bool = False) -> Tensor:
    """(N, H', W', O) of maps (N, H, W, C) and filters (O, r, r, C); or (C, r, r, O), then `turned` by half a turn."""
    sides = [side + 2 * pad - filters.shape[1] + 1 for side, pad in zip(maps.shape[1:], padding)]
    channels = filters.shape[3 if turned else 0]
    tiling = _Tiling(sides, filters.shape[1], max(channels, maps.shape[3]))
    spread = tiling.spread(filters, TURNED) if turned else tiling.spread(filters, FILTERS).transpose(1, 2)
    outputs = maps.new_empty(len(maps), *sides, channels)
    for some, theirs in zip(maps.split(tiling.count), outputs.split(tiling.count)):
        tiling.gather(tiling.spread(some, IMAGES, padding) @ spread, theirs, False, bias)
    return outputs


def _filter_gradient(maps: Tensor, gradient: Tensor, r: int, padding) -> Tensor:
    """(O, r, r, C) of maps (N, H, W, C) and the gradient (N, H', W', O) of the outputs."""
    (_, *sides, filters), channels = gradient.shape, maps.shape[3]
    tiling = _Tiling(sides, r, max(filters, channels))
    total = gradient.new_empty(tiling.planes, filters, channels)
    for place, (some, theirs) in enumerate(zip(maps.split(tiling.count), gradient.split(tiling.count))):
        outer, inner = tiling.spread(theirs, GRADIENTS).transpose(1, 2), tiling.spread(some, IMAGES, padding)
        total.baddbmm_(outer, inner, beta=min(place, 1))  # the first product starts the sum
    found = gradient.new_empty(filters, r, r, channels)
    tiling.gather(total, found, True)
    return found
