// Batch norm, max pool and ReLU as one pass over the activations each way.
//
// Maps (N, C, H, W) lie channels-last in memory; of bfloat16 the arithmetic is in float. A window of k by k gives
//     y = max(0, max over the window of (scale * x + shift))
// where scale and shift belong to the channel. The inner loops go over channels, which lie side by side. What lies
// between the layers is never stored: the backward pass computes it again.

#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <cstring>
#include <initializer_list>
#include <vector>

using at::Tensor;

// What is handed in is checked before anything is read or written.

void check_maps(const Tensor& x, int64_t k) {
  TORCH_CHECK(x.dim() == 4 && x.is_cpu() && x.is_contiguous(at::MemoryFormat::ChannelsLast),
              "x must be maps (N, C, H, W) on the CPU, channels-last in memory");
  TORCH_CHECK(k == 1 || k == 2, "windows have a side of 1 or 2, not ", k);
  TORCH_CHECK(x.size(2) % k == 0 && x.size(3) % k == 0, "windows of ", k, " by ", k, " don't tile maps of ", x.sizes());
}

// A number for each channel, in the precision of the arithmetic
void check_channels(const Tensor& x, std::initializer_list<Tensor> each) {
  for (const Tensor& one : each)
    TORCH_CHECK(one.is_cpu() && one.is_contiguous() && one.sizes() == at::IntArrayRef({x.size(1)}) &&
                    one.scalar_type() == at::toOpMathType(x.scalar_type()),
                "for ", x.size(1), " channels in ", x.scalar_type(), " there must be as many numbers in ",
                at::toOpMathType(x.scalar_type()), ", not ", one.sizes(), " in ", one.scalar_type());
}

void check_gradient(const Tensor& x, int64_t k, const Tensor& gradient) {
  TORCH_CHECK(gradient.is_cpu() && gradient.scalar_type() == x.scalar_type() &&
                  gradient.sizes() == at::IntArrayRef({x.size(0), x.size(1), x.size(2) / k, x.size(3) / k}) &&
                  gradient.is_contiguous(at::MemoryFormat::ChannelsLast),
              "the gradient ", gradient.sizes(), " doesn't fit maps ", x.sizes(), ", or isn't channels-last in ",
              x.scalar_type());
}

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
  check_maps(x, 1);
  check_channels(x, {about});
  const Tensor sums = new_sums(x);
  const int64_t c = x.size(1), h = x.size(2), w = x.size(3);
  DISPATCH(each_image(x.size(0), [&](int64_t image) {
    moments_image<T>(x.data_ptr<T>() + image * h * w * c, about.data_ptr<at::opmath_type<T>>(), h, w, c,
                     sums.data_ptr<double>() + image * 2 * c);
  }););
  return sums;
}

Tensor forward(const Tensor& x, const Tensor& scale, const Tensor& shift, int64_t k) {
  check_maps(x, k);
  check_channels(x, {scale, shift});
  const Tensor y = at::empty({x.size(0), x.size(1), x.size(2) / k, x.size(3) / k},
                             x.options().memory_format(at::MemoryFormat::ChannelsLast));
  DISPATCH(const Maps<T> maps(x, scale, shift, k); each_image(maps.n, [&](int64_t image) {
    (k == 2 ? forward_image<2, T> : forward_image<1, T>)(maps, image, y.data_ptr<T>());
  }););
  return y;
}

Tensor sums(const Tensor& x, const Tensor& scale, const Tensor& shift, int64_t k, const Tensor& gradient) {
  check_maps(x, k);
  check_channels(x, {scale, shift});
  check_gradient(x, k, gradient);
  const Tensor sums = new_sums(x);
  DISPATCH(const Maps<T> maps(x, scale, shift, k); each_image(maps.n, [&](int64_t image) {
    (k == 2 ? sums_image<2, T> : sums_image<1, T>)(maps, image, gradient.data_ptr<T>(),
                                                   sums.data_ptr<double>() + image * 2 * maps.c);
  }););
  return sums;
}

Tensor backward(const Tensor& x, const Tensor& scale, const Tensor& shift, int64_t k, const Tensor& gradient,
                const Tensor& a, const Tensor& b) {
  check_maps(x, k);
  check_channels(x, {scale, shift, a, b});
  check_gradient(x, k, gradient);
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
