// Convolutions of few channels, each with the max pool over 2 by 2 and the ReLU that follow it, as one pass each way.
//
// A vector holds the same pixel of as many images as it has lanes, and what is done for one image is done for all of
// them: so maps come as (blocks of images, channels, rows, columns, lanes). Everything is in float.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <tuple>
#include <vector>

using at::Tensor;

namespace {

#ifdef __AVX512F__
constexpr int lanes = 16;
constexpr bool many = true;  // registers: 32
#else
constexpr int lanes = 8;
constexpr bool many = false;  // 16
#endif
#define INLINE __attribute__((always_inline))  // so that what it is given need not lie in memory
using Vec = float __attribute__((vector_size(4 * lanes)));
using Ints = int32_t __attribute__((vector_size(4 * lanes)));

template <typename V, typename T>
inline V load(const T* from) {
  V value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <typename V, typename T>
inline void store(T* to, V value) {
  std::memcpy(to, &value, sizeof value);
}

inline float total(Vec value) {
  float sum = 0;
  for (int lane = 0; lane < lanes; ++lane) sum += value[lane];
  return sum;
}

// Maps of a block of images: (channels, rows, columns, lanes)
struct Shape {
  int64_t c, h, w;
  int64_t row() const { return w * lanes; }
  int64_t plane() const { return h * row(); }
  int64_t size() const { return c * plane(); }
  Shape padded(int64_t by) const { return {c, h + 2 * by, w + 2 * by}; }
};

// What is handed in is checked before anything is read or written.

void check(const Tensor& tensor, const char* name, at::ScalarType type, at::IntArrayRef sizes) {
  TORCH_CHECK(tensor.is_cpu() && tensor.is_contiguous() && tensor.scalar_type() == type && tensor.sizes() == sizes,
              name, " must be ", sizes, " in ", type, " on the CPU, contiguous, not ", tensor.sizes(), " in ",
              tensor.scalar_type());
}

Shape shape_of(const Tensor& maps) {
  TORCH_CHECK(maps.dim() == 5 && maps.size(4) == lanes, "maps must be blocks of images, not ", maps.sizes());
  check(maps, "maps", at::kFloat, maps.sizes());
  return {maps.size(1), maps.size(2), maps.size(3)};
}

// Of a filter of k by k: what the convolution's outputs, which windows of 2 by 2 must tile, have along a side
int64_t convolved(int64_t side, int64_t k, int64_t by) {
  const int64_t found = side + 2 * by - k + 1;
  TORCH_CHECK(0 <= by && by < k, "there must be between 0 and ", k - 1, " zeros around, not ", by);
  TORCH_CHECK(found > 0 && found % 2 == 0, "windows of 2 by 2 don't tile ", found, " outputs along a side");
  return found;
}

// The side of filters (.., .., k, k)
int64_t side_of(const Tensor& filters) {
  const int64_t k = filters.dim() == 4 ? filters.size(3) : 0;
  TORCH_CHECK(k == 3 || k == 5, "filters must be of 3 by 3 or 5 by 5, not ", filters.sizes());
  return k;
}

// A copy of maps into the middle of larger ones, of which the edge is left alone
void pad(const float* maps, const Shape& s, int64_t by, float* padded) {
  const Shape to = s.padded(by);
  padded += by * to.row() + by * lanes;
  for (int64_t c = 0; c < s.c; ++c)
    for (int64_t i = 0; i < s.h; ++i)
      std::copy_n(maps + c * s.plane() + i * s.row(), s.row(), padded + c * to.plane() + i * to.row());
}

// Calls f(std::integral_constant<int, some>, first) for all `count` filters, some at a time: `six` of them if the count
// is a multiple of six, `four` if it is one of four. It's as many as registers have room for the sums of.
template <int six, int four, typename F>
void each_filters(int64_t count, F f) {
  const auto all = [&](auto some) { for (int64_t o = 0; o < count; o += some) f(some, o); };
  if (count % 6 == 0)
    all(std::integral_constant<int, six>());
  else if (count % 4 == 0)
    all(std::integral_constant<int, four>());
  else
    all(std::integral_constant<int, 1>());
}

// The convolution of maps that have `by` zeros around with filters (count, channels, k, k), 2 by 2 outputs of some
// filters at a time: done(filter, row, column, four sums). Rows and columns of which all four see zeros are left out.
template <int k, typename F>
void convolve(const float* padded, const Shape& s, int64_t by, const float* filters, int64_t count, F done) {
  const Shape from = s.padded(by);
  const int64_t filter = s.c * k * k;
  each_filters<many ? 6 : 3, many ? 4 : 2>(count, [&](auto some, int64_t o) {
    for (int64_t y = 0; y + k < from.h; y += 2)
      for (int64_t x = 0; x + k < from.w; x += 2) {
        Vec sums[some][4] = {};
        const int64_t top = std::max<int64_t>(0, by - 1 - y), bottom = std::min<int64_t>(k, s.h + by - y);
        const int64_t left = std::max<int64_t>(0, by - 1 - x), right = std::min<int64_t>(k, s.w + by - x);
        for (int64_t c = 0; c < s.c; ++c)
          for (int64_t i = top; i < bottom; ++i)
            for (int64_t j = left; j < right; ++j) {
              const float* in = padded + c * from.plane() + (y + i) * from.row() + (x + j) * lanes;
              const float* weight = filters + o * filter + (c * k + i) * k + j;
              const Vec values[4] = {load<Vec>(in), load<Vec>(in + lanes), load<Vec>(in + from.row()),
                                     load<Vec>(in + from.row() + lanes)};
#pragma GCC unroll 8
              for (int a = 0; a < some; ++a)
#pragma GCC unroll 4
                for (int p = 0; p < 4; ++p) sums[a][p] += weight[a * filter] * values[p];
            }
#pragma GCC unroll 8
        for (int a = 0; a < some; ++a) done(o + a, y, x, sums[a]);
      }
  });
}

// dW (filters, channels, k, k) = sum of gradient * maps over the images of a block, from maps with zeros around
template <int k>
void weight_gradient(const float* padded, const Shape& from, const float* gradient, const Shape& s, float* to) {
  each_filters<many ? 3 : 2, many ? 4 : 2>(s.c, [&](auto some, int64_t o) {
    for (int64_t c = 0; c < from.c; ++c) {
      Vec sums[k][some][k] = {};
      for (int64_t y = 0; y < s.h; ++y)
        for (int64_t i = 0; i < k; ++i) {  // here, so that a row of the gradient is still near
          Vec of_row[some][k] = {};
          for (int64_t x = 0; x < s.w; ++x) {
            const float* in = padded + c * from.plane() + (y + i) * from.row() + x * lanes;
            const float* its = gradient + o * s.plane() + y * s.row() + x * lanes;
            Vec values[k];
#pragma GCC unroll 8
            for (int j = 0; j < k; ++j) values[j] = load<Vec>(in + j * lanes);
#pragma GCC unroll 8
            for (int a = 0; a < some; ++a) {
              const Vec one = load<Vec>(its + a * s.plane());
#pragma GCC unroll 8
              for (int j = 0; j < k; ++j) of_row[a][j] += one * values[j];
            }
          }
#pragma GCC unroll 8
          for (int a = 0; a < some; ++a)
#pragma GCC unroll 8
            for (int j = 0; j < k; ++j) sums[i][a][j] += of_row[a][j];
        }
      for (int i = 0; i < k; ++i)
        for (int a = 0; a < some; ++a)
          for (int j = 0; j < k; ++j) to[((o + a) * from.c + c) * k * k + i * k + j] = total(sums[i][a][j]);
    }
  });
}

// Blocks are shared out among threads. Each has its own sums, so that the number of threads changes no bit.
template <typename F>
void each_block(const Tensor& maps, F f) {
  at::parallel_for(0, maps.size(0), 1, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) f(block);
  });
}

constexpr int nowhere = 4;  // the place of the largest where it doesn't get through the ReLU

template <int k>
std::tuple<Tensor, Tensor> forward_of(const Tensor& x, const Tensor& weight, const Tensor& bias, int64_t by) {
  const Shape s = shape_of(x), to = {weight.size(0), convolved(s.h, k, by) / 2, convolved(s.w, k, by) / 2};
  check(weight, "weight", at::kFloat, {to.c, s.c, k, k});
  check(bias, "bias", at::kFloat, {to.c});
  const Tensor y = at::empty({x.size(0), to.c, to.h, to.w, lanes}, x.options());
  const Tensor places = at::empty_like(y, y.options().dtype(at::kInt));
  const float *all = x.data_ptr<float>(), *filters = weight.data_ptr<float>(), *biases = bias.data_ptr<float>();
  float* outputs = y.data_ptr<float>();
  int32_t* its_places = places.data_ptr<int32_t>();
  each_block(x, [&](int64_t block) {
    std::vector<float> padded(s.padded(by).size());
    pad(all + block * s.size(), s, by, padded.data());
    const auto done = [&](int64_t o, int64_t i, int64_t j, const Vec* sums) INLINE {
      Vec largest = sums[0];
      Ints place = {};
#pragma GCC unroll 4
      for (int p = 1; p < 4; ++p) {
        const Ints more = (sums[p] > largest) | (sums[p] != sums[p]);
        largest = more ? sums[p] : largest;
        place = more ? Ints{} + p : place;
      }
      largest += biases[o];
      const int64_t at = block * to.size() + o * to.plane() + i / 2 * to.row() + j / 2 * lanes;
      store(outputs + at, largest <= 0 ? Vec{} : largest);
      store(its_places + at, largest > 0 ? place : Ints{} + nowhere);
    };
    convolve<k>(padded.data(), s, by, filters, to.c, done);
  });
  return {y, places};
}

template <int k>
std::tuple<Tensor, Tensor, Tensor> backward_of(const Tensor& gradient, const Tensor& places, const Tensor& x,
                                               const Tensor& turned, int64_t by, bool of_x) {
  const Shape s = shape_of(x), to = shape_of(gradient), whole = {to.c, 2 * to.h, 2 * to.w};
  const int64_t rest = k - 1 - by, blocks = x.size(0);
  check(gradient, "gradient", at::kFloat, {blocks, to.c, convolved(s.h, k, by) / 2, convolved(s.w, k, by) / 2, lanes});
  check(places, "places", at::kInt, gradient.sizes());
  check(turned, "turned weights", at::kFloat, {s.c, to.c, k, k});
  const Tensor dx = at::empty({of_x ? blocks : 0, s.c, s.h, s.w, lanes}, x.options());
  const Tensor of_weight = at::empty({blocks, to.c, s.c, k, k}, x.options());
  const Tensor of_bias = at::empty({blocks, to.c}, x.options());
  const float *all = x.data_ptr<float>(), *gradients = gradient.data_ptr<float>(), *filters = turned.data_ptr<float>();
  const int32_t* its_places = places.data_ptr<int32_t>();
  float *maps = dx.data_ptr<float>(), *dw = of_weight.data_ptr<float>(), *db = of_bias.data_ptr<float>();
  each_block(x, [&](int64_t block) {
    // The gradient of the convolution's outputs: each goes to the largest of its window
    const std::unique_ptr<float[]> unpooled(new float[whole.size()]);
    for (int64_t o = 0; o < to.c; ++o) {
      Vec sum = {};
      for (int64_t i = 0; i < to.h; ++i)
        for (int64_t j = 0; j < to.w; ++j) {
          const int64_t from = block * to.size() + o * to.plane() + i * to.row() + j * lanes;
          const Vec value = load<Vec>(gradients + from);
          const Ints place = load<Ints>(its_places + from);
          for (int p = 0; p < 4; ++p) {
            const int64_t at = o * whole.plane() + (2 * i + p / 2) * whole.row() + (2 * j + p % 2) * lanes;
            store(unpooled.get() + at, place == p ? value : Vec{});
          }
          sum += place == nowhere ? Vec{} : value;
        }
      db[block * to.c + o] = total(sum);
    }
    std::vector<float> padded(std::max(s.padded(by).size(), whole.padded(rest).size()));
    pad(all + block * s.size(), s, by, padded.data());
    weight_gradient<k>(padded.data(), s.padded(by), unpooled.get(), whole, dw + block * to.c * s.c * k * k);
    if (!of_x) return;
    std::fill(padded.begin(), padded.end(), 0.0f);
    pad(unpooled.get(), whole, rest, padded.data());
    const auto done = [&](int64_t c, int64_t i, int64_t j, const Vec* sums) INLINE {
      float* at = maps + block * s.size() + c * s.plane() + i * s.row() + j * lanes;
#pragma GCC unroll 4
      for (int p = 0; p < 4; ++p) store(at + p / 2 * s.row() + p % 2 * lanes, sums[p]);
    };
    convolve<k>(padded.data(), whole, rest, filters, s.c, done);
  });
  return {dx, of_weight, of_bias};
}

// y = max(0, max over windows of 2 by 2 of (convolution of x + bias)), and the place of the largest
std::tuple<Tensor, Tensor> forward(const Tensor& x, const Tensor& weight, const Tensor& bias, int64_t by) {
  return (side_of(weight) == 3 ? forward_of<3> : forward_of<5>)(x, weight, bias, by);
}

// dx, and of each block dW and db; `turned`: the weights (channels, filters, k, k), turned by half a turn
std::tuple<Tensor, Tensor, Tensor> backward(const Tensor& gradient, const Tensor& places, const Tensor& x,
                                            const Tensor& turned, int64_t by, bool of_x) {
  return (side_of(turned) == 3 ? backward_of<3> : backward_of<5>)(gradient, places, x, turned, by, of_x);
}

int64_t lanes_op() { return lanes; }

TORCH_LIBRARY(narrow, library) {
  library.def("forward", &forward);
  library.def("backward", &backward);
  library.def("lanes", &lanes_op);
}

}  // namespace
