"""Batch norm, max pool and ReLU as one pass over the activations each way, compiled for the CPU.

torch makes a pass of each: in training, a batch norm before a pool and a ReLU goes through its activations a dozen
times, and next to no arithmetic is done on the way. Here they are read once for their moments and once for the result,
and in the backward pass read twice and written once. Nothing of what lies between is kept: it is computed again.
"""

import functools

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from helpers.fast import narrow
from helpers.fast.build import compiled, compiles
from helpers.models import Residual

CHANNELS = 32  # a multiple of it fills vector registers; of fewer channels torch's own passes are faster

KERNEL = r"""
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <cstring>
#include <vector>

using at::Tensor;

// Maps (N, C, H, W), channels-last in memory; of bfloat16 the arithmetic is in float. A window of k by k gives
//     y = max(0, max over the window of (scale * x + shift))
// where scale and shift belong to the channel. The inner loops go over channels, which lie side by side.

template <typename T>
inline void put(T& out, T value) {
  out = value;
}

inline void put(c10::BFloat16& out, float value) {  // rounded to nearest, without a branch
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  bits = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  out.x = value == value ? bits : 0x7fc0;
}

// The largest of a window's values after scale and shift, and its place: the first, if several are equal; or NaN.
template <int k, typename T, typename A>
inline A largest(const T* x, int64_t row, int64_t pixel, A scale, A shift, A (&in)[k * k], int& place) {
  for (int p = 0; p < k * k; ++p) in[p] = A(x[(p / k) * row + (p % k) * pixel]);
  A most = scale * in[0] + shift;
  place = 0;
  for (int p = 1; p < k * k; ++p) {
    const A value = scale * in[p] + shift;
    const bool more = (value > most) | (value != value);
    most = more ? value : most;
    place = more ? p : place;
  }
  return most;
}

template <typename T>
struct Maps {
  using A = at::opmath_type<T>;
  int64_t n, c, h, w, k;
  const T* x;
  const A *scale, *shift;

  Maps(const Tensor& maps, const Tensor& scale_, const Tensor& shift_, int64_t k_)
      : n(maps.size(0)), c(maps.size(1)), h(maps.size(2)), w(maps.size(3)), k(k_), x(maps.data_ptr<T>()),
        scale(scale_.data_ptr<A>()), shift(shift_.data_ptr<A>()) {}

  // f(where it starts in x, where its result lies in y) of each window of an image
  template <typename F>
  void windows(int64_t image, F f) const {
    for (int64_t i = 0; i < h / k; ++i)
      for (int64_t j = 0; j < w / k; ++j)
        f(((image * h + i * k) * w + j * k) * c, ((image * (h / k) + i) * (w / k) + j) * c);
  }
};

template <int k, typename T>
void forward_image(const Maps<T>& m, int64_t image, T* y) {
  using A = at::opmath_type<T>;
  m.windows(image, [&](int64_t from, int64_t to) {
    const T* x = m.x + from;
    T* out = y + to;
#pragma omp simd
    for (int64_t q = 0; q < m.c; ++q) {
      A in[k * k];
      int place;
      const A most = largest<k>(x + q, m.w * m.c, m.c, m.scale[q], m.shift[q], in, place);
      put(out[q], most <= 0 ? A(0) : most);
    }
  });
}

// Of each channel: the sum of the gradients that get through the ReLU, and of their products with their x.
template <int k, typename T>
void sums_image(const Maps<T>& m, int64_t image, const T* gradients, double* sums) {
  using A = at::opmath_type<T>;
  std::vector<A> some(2 * m.c);  // in A, which is fast: they are few enough
  A *one = some.data(), *other = one + m.c;
  m.windows(image, [&](int64_t from, int64_t to) {
    const T *x = m.x + from, *gradient = gradients + to;
#pragma omp simd
    for (int64_t q = 0; q < m.c; ++q) {
      A in[k * k];
      int place;
      const A most = largest<k>(x + q, m.w * m.c, m.c, m.scale[q], m.shift[q], in, place);
      A chosen = in[0];
      for (int p = 1; p < k * k; ++p) chosen = place == p ? in[p] : chosen;
      const A passed = most > 0 ? A(gradient[q]) : A(0);
      one[q] += passed;
      other[q] += passed * chosen;
    }
  });
  for (int64_t q = 0; q < 2 * m.c; ++q) sums[q] += some[q];
}

// dx = scale * gradient at the place of the largest, if it gets through the ReLU; and a + b * x everywhere
template <int k, typename T>
void backward_image(const Maps<T>& m, int64_t image, const T* gradients, const at::opmath_type<T>* a,
                    const at::opmath_type<T>* b, T* dx) {
  using A = at::opmath_type<T>;
  m.windows(image, [&](int64_t from, int64_t to) {
    const T *x = m.x + from, *gradient = gradients + to;
    T* out = dx + from;
#pragma omp simd
    for (int64_t q = 0; q < m.c; ++q) {
      A in[k * k];
      int place;
      const A most = largest<k>(x + q, m.w * m.c, m.c, m.scale[q], m.shift[q], in, place);
      const A passed = most > 0 ? m.scale[q] * A(gradient[q]) : A(0);
      for (int p = 0; p < k * k; ++p)
        put(out[(p / k) * m.w * m.c + (p % k) * m.c + q], (place == p ? passed : A(0)) + a[q] + b[q] * in[p]);
    }
  });
}

template <typename T>
void moments_image(const T* x, const at::opmath_type<T>* about, int64_t rows, int64_t w, int64_t c, double* sums) {
  using A = at::opmath_type<T>;
  std::vector<A> some(2 * c);
  A *one = some.data(), *other = one + c;
  for (int64_t i = 0; i < rows; ++i) {
    std::fill(some.begin(), some.end(), A(0));
    for (int64_t j = 0; j < w; ++j, x += c)
#pragma omp simd
      for (int64_t q = 0; q < c; ++q) {
        const A value = A(x[q]) - about[q];
        one[q] += value;
        other[q] += value * value;
      }
    for (int64_t q = 0; q < 2 * c; ++q) sums[q] += some[q];
  }
}

#define DISPATCH(...) \
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, x.scalar_type(), "fused", [&] { using T = scalar_t; __VA_ARGS__ })

// Images are shared out among threads. Each has its own sums, so that the number of threads changes no bit.
template <typename F>
void each_image(int64_t n, F f) {
  at::parallel_for(0, n, 1, [&](int64_t first, int64_t last) {
    for (int64_t image = first; image < last; ++image) f(image);
  });
}

Tensor new_sums(const Tensor& x) { return at::zeros({x.size(0), 2, x.size(1)}, x.options().dtype(at::kDouble)); }

// (N, 2, C): of each image and channel, the sums of x - about and of its squares
Tensor moments(const Tensor& x, const Tensor& about) {
  const Tensor sums = new_sums(x);
  const int64_t c = x.size(1), h = x.size(2), w = x.size(3);
  DISPATCH(each_image(x.size(0), [&](int64_t image) {
    moments_image<T>(x.data_ptr<T>() + image * h * w * c, about.data_ptr<at::opmath_type<T>>(), h, w, c,
                     sums.data_ptr<double>() + image * 2 * c);
  }););
  return sums;
}

Tensor forward(const Tensor& x, const Tensor& scale, const Tensor& shift, int64_t k) {
  const Tensor y = at::empty({x.size(0), x.size(1), x.size(2) / k, x.size(3) / k},
                             x.options().memory_format(at::MemoryFormat::ChannelsLast));
  DISPATCH(const Maps<T> maps(x, scale, shift, k); each_image(maps.n, [&](int64_t image) {
    (k == 2 ? forward_image<2, T> : forward_image<1, T>)(maps, image, y.data_ptr<T>());
  }););
  return y;
}

Tensor sums(const Tensor& x, const Tensor& scale, const Tensor& shift, int64_t k, const Tensor& gradient) {
  const Tensor sums = new_sums(x);
  DISPATCH(const Maps<T> maps(x, scale, shift, k); each_image(maps.n, [&](int64_t image) {
    (k == 2 ? sums_image<2, T> : sums_image<1, T>)(maps, image, gradient.data_ptr<T>(),
                                                   sums.data_ptr<double>() + image * 2 * maps.c);
  }););
  return sums;
}

Tensor backward(const Tensor& x, const Tensor& scale, const Tensor& shift, int64_t k, const Tensor& gradient,
                const Tensor& a, const Tensor& b) {
  const Tensor dx = at::empty_like(x);
  DISPATCH(using A = at::opmath_type<T>; const Maps<T> maps(x, scale, shift, k); each_image(maps.n, [&](int64_t image) {
    (k == 2 ? backward_image<2, T> : backward_image<1, T>)(maps, image, gradient.data_ptr<T>(), a.data_ptr<A>(),
                                                           b.data_ptr<A>(), dx.data_ptr<T>());
  }););
  return dx;
}

TORCH_LIBRARY(fused, m) {
  m.def("moments", &moments);
  m.def("forward", &forward);
  m.def("sums", &sums);
  m.def("backward", &backward);
}
"""


@functools.cache
def _kernel():
    return compiled("fused", KERNEL)


def available() -> bool:
    """Whether this machine has a compiler; compiles, once."""
    return compiles(_kernel)


# ------------------------------------------------------------------------------------------ the function


class _NormPoolReLU(torch.autograd.Function):
    """Max pool over windows of `side` by `side` and ReLU of γ (x − mean) / √(var + ε) + β, mean and variance those of
    the batch, which are given as well; (N, C, H, W) channels-last."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, eps: float, side: int):
        about = x[0, :, 0, 0].to(weight.dtype)  # a number near the mean, so that few digits cancel
        count = x.numel() // x.shape[1]
        first, second = _kernel().moments(x, about).sum(0) / count
        mean, variance = first + about, (second - first.square()).clamp_min(0)
        inverse = (variance + eps).rsqrt()
        scale = (weight * inverse).to(weight.dtype)
        shift = (bias - mean * scale).to(weight.dtype)
        ctx.save_for_backward(x, scale, shift, mean, inverse)
        ctx.side = side
        ctx.mark_non_differentiable(mean, variance)
        return _kernel().forward(x, scale, shift, side), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor, *_):
        x, scale, shift, mean, inverse = ctx.saved_tensors
        count = x.numel() // x.shape[1]
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_bias, products = _kernel().sums(x, scale, shift, ctx.side, gradient).sum(0)
        of_weight = (products - mean * of_bias) * inverse
        b = -scale * inverse * of_weight / count
        a = -scale * of_bias / count - b * mean
        a, b, of_weight, of_bias = (each.to(scale.dtype) for each in (a, b, of_weight, of_bias))
        return _kernel().backward(x, scale, shift, ctx.side, gradient, a, b), of_weight, of_bias, None, None


class _PoolReLU(torch.autograd.Function):
    """Max pool over windows of `side` by `side`, and ReLU; (N, C, H, W) channels-last."""

    @staticmethod
    def forward(ctx, x: Tensor, side: int):
        ctx.save_for_backward(x)
        ctx.side = side
        return _kernel().forward(x, *_PoolReLU.identity(x), side)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        (x,) = ctx.saved_tensors
        one, zero = _PoolReLU.identity(x)
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        return _kernel().backward(x, one, zero, ctx.side, gradient, zero, zero), None

    @staticmethod
    def identity(x: Tensor) -> tuple[Tensor, Tensor]:
        kind = torch.promote_types(x.dtype, torch.float32)
        return x.new_ones(x.shape[1], dtype=kind), x.new_zeros(x.shape[1], dtype=kind)


# ------------------------------------------------------------------------------------------ in a model


def fuse(model: nn.Module) -> None:
    """Has each Sequential of a model compute batch norm, max pool and ReLU that follow each other at once, in training,
    on channels-last maps; and what is `narrow`. Names, parameters and layers stay as they are. Raises RuntimeError
    without a compiler.

    Pools come before ReLUs; see `faster.pool_first`.
    """
    _kernel()
    for chain in list(model.modules()):
        kind = {nn.Sequential: _Sequential, Residual: _Residual}.get(type(chain))
        if kind is not None:
            chain.__class__ = kind


class _Sequential(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        layers = list(self)
        while layers:
            few, (norm, pool, count) = narrow.leading(layers, x), _start(layers)
            if few and _unheard(layers[:few]):
                count, x = few, narrow.convolve(layers[:few], x)
            elif count and _fits(x, norm, pool) and _unheard(layers[:count]):
                x = _at_once(x, norm, pool)
            else:
                count, x = 1, layers[0](x)
            del layers[:count]
        return x


class _Residual(Residual, _Sequential):
    """x + layers(x), as in `Residual`."""


def _unheard(layers: list[nn.Module]) -> bool:
    """Whether nothing listens to any of the layers, so that none need be called."""
    return not any(layer._forward_hooks for layer in layers)


def _start(layers: list[nn.Module]) -> tuple[nn.BatchNorm2d | None, nn.MaxPool2d | None, int]:
    """Batch norm and pool, if the layers start with one or both and then a ReLU, and how many they are; else 0."""
    rest = list(layers)
    norm = rest.pop(0) if type(rest[0]) is nn.BatchNorm2d else None
    pool = rest.pop(0) if rest and type(rest[0]) is nn.MaxPool2d else None
    found = (norm or pool) and rest and type(rest[0]) is nn.ReLU
    return norm, pool, len(layers) - len(rest) + 1 if found else 0


def _fits(x: Tensor, norm: nn.BatchNorm2d | None, pool: nn.MaxPool2d | None) -> bool:
    """Whether the kernel computes what torch would."""
    kinds = (torch.bfloat16, torch.float32, torch.float64)
    if x.device.type != "cpu" or x.ndim != 4 or x.dtype not in kinds or not x.numel():
        return False
    if x.shape[1] % CHANNELS or not x.is_contiguous(memory_format=torch.channels_last):
        return False
    if pool is not None and not narrow.halves(pool, x.shape[2:]):
        return False
    if norm is not None:
        plain = norm.training and norm.affine and norm.track_running_stats and norm.momentum is not None
        return plain and x.numel() > x.shape[1] and norm.weight.dtype == torch.promote_types(x.dtype, torch.float32)
    return True


def _at_once(x: Tensor, norm: nn.BatchNorm2d | None, pool: nn.MaxPool2d | None) -> Tensor:
    side = 1 if pool is None else 2
    if norm is None:
        return _PoolReLU.apply(x, side)
    y, mean, variance = _NormPoolReLU.apply(x, norm.weight, norm.bias, norm.eps, side)
    with torch.no_grad():
        count = x.numel() // x.shape[1]
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum)
        norm.running_var.lerp_((variance * count / (count - 1)).to(norm.running_var.dtype), norm.momentum)
    return y
