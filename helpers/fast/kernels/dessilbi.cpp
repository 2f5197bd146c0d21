// A step of DessiLBI and of its form with Adam (helpers/dessilbi.py has the equations) in one pass over memory.

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

using at::Tensor;
using at::TensorList;

template <typename T>
struct Sgd {  // d of SGD, with momentum if there is a buffer for it
  T momentum, taken, weight_decay, *buffer;
  T operator()(int64_t i, T w, T g) const {
    g += weight_decay * w;
    return buffer ? buffer[i] = momentum * buffer[i] + taken * g : g;
  }
};

template <typename T>
struct Adam {  // d of Adam; `bias1`, `bias2`: 1 - beta^step
  T beta1, beta2, eps, weight_decay, bias1, bias2, *mean, *square;
  T operator()(int64_t i, T w, T g) const {
    g += weight_decay * w;
    mean[i] += (1 - beta1) * (g - mean[i]);
    square[i] = beta2 * square[i] + (1 - beta2) * g * g;
    return mean[i] / bias1 / (std::sqrt(square[i] / bias2) + eps);
  }
};

// A step of some rows; a row is what belongs to one output filter. The norm of a row of Z is taken just before the row
// is updated, which then finds it in the cache.
template <bool by_filter, typename T, typename Direction>
void update(T* w, const T* g, T* z, int64_t first, int64_t last, int64_t n, T lr, T kappa, T mu, Direction d) {
  const T rate = kappa * lr, pull = kappa * lr / mu, push = lr / mu;
  for (int64_t row = first; row < last; ++row) {
    T factor = kappa;
    if (by_filter) {
      T squares = 0;
#pragma omp simd reduction(+ : squares)
      for (int64_t i = row * n; i < (row + 1) * n; ++i) squares += z[i] * z[i];
      // Capped, since squares overflow before the norm does: a filter that large shrinks by nothing. NaN stays NaN.
      const T norm = std::min(std::sqrt(squares), std::numeric_limits<T>::max());
      factor = norm <= 1 ? 0 : kappa * (norm - 1) / norm;
    }
#pragma omp simd
    for (int64_t i = row * n; i < (row + 1) * n; ++i) {
      const T kept = by_filter ? z[i] : z[i] - (z[i] > 1 ? T(1) : z[i] < -1 ? T(-1) : z[i]);
      const T apart = w[i] - factor * kept;
      w[i] -= rate * d(i, w[i], g[i]) + pull * apart;
      z[i] += push * apart;
    }
  }
}

// A step of one tensor, by as many threads as torch has.
template <typename T, typename Direction>
void update(const Tensor& w, const Tensor& g, const Tensor& z, bool by_filter, T lr, T kappa, T mu, Direction d) {
  const int64_t rows = w.size(0), n = w.numel() / rows;
  const auto some_rows = by_filter ? update<true, T, Direction> : update<false, T, Direction>;
  at::parallel_for(0, rows, at::divup(32768, n), [&](int64_t first, int64_t last) {
    some_rows(w.data_ptr<T>(), g.data_ptr<T>(), z.data_ptr<T>(), first, last, n, lr, kappa, mu, d);
  });
}

// Whether weights, gradient and state lie alike in a CPU's memory, whole row after whole row.
bool lie_alike(const std::vector<Tensor>& tensors) {
  const Tensor& w = tensors[0];
  bool rows = w.dim() > 0, channels_last = w.dim() == 4;
  for (const Tensor& each : tensors) {
    if (!each.is_cpu() || each.layout() != at::kStrided || each.is_neg()) return false;
    if (each.scalar_type() != w.scalar_type()) return false;
    rows = rows && each.is_contiguous();
    channels_last = channels_last && each.is_contiguous(at::MemoryFormat::ChannelsLast);
  }
  return w.numel() > 0 && (w.scalar_type() == at::kFloat || w.scalar_type() == at::kDouble) && (rows || channels_last);
}

// The indices of the parameters whose tensors, one of each list, the kernel can go through, and of the others. Raises
// if sizes differ, so that nothing is ever read or written past its end.
struct Parameters {
  std::vector<int64_t> taken, left;

  explicit Parameters(const std::vector<TensorList>& lists) {
    const TensorList& ws = lists[0];
    for (const TensorList& list : lists) {
      TORCH_CHECK(list.size() == ws.size(), "dessilbi: ", list.size(), " tensors for ", ws.size(), " parameters");
    }
    for (size_t k = 0; k < ws.size(); ++k) {
      std::vector<Tensor> tensors;
      for (const TensorList& list : lists) {
        TORCH_CHECK(list[k].sizes() == ws[k].sizes(), "dessilbi: gradient or state of shape ", list[k].sizes(),
                    " for weights of shape ", ws[k].sizes());
        tensors.push_back(list[k]);
      }
      (lie_alike(tensors) ? taken : left).push_back(k);
    }
  }
};

// Both make a step of the parameters that they take, and give the indices of those that they leave as they are.
std::vector<int64_t> sgd(TensorList ws, TensorList gradients, TensorList buffers, TensorList zs, bool by_filter,
                         double lr, double kappa, double mu, double momentum, double dampening, double weight_decay) {
  const Parameters parameters({ws, gradients, zs, buffers.empty() ? zs : buffers});
  for (const int64_t k : parameters.taken) {
    AT_DISPATCH_FLOATING_TYPES(ws[k].scalar_type(), "dessilbi", [&] {
      using T = scalar_t;
      T* momenta = buffers.empty() ? nullptr : buffers[k].data_ptr<T>();
      update<T>(ws[k], gradients[k], zs[k], by_filter, lr, kappa, mu,
                Sgd<T>{T(momentum), T(1 - dampening), T(weight_decay), momenta});
    });
  }
  return parameters.left;
}

std::vector<int64_t> adam(TensorList ws, TensorList gradients, TensorList means, TensorList squares, TensorList steps,
                          TensorList zs, bool by_filter, double lr, double kappa, double mu, double beta1, double beta2,
                          double eps, double weight_decay) {
  const Parameters parameters({ws, gradients, zs, means, squares});
  TORCH_CHECK(steps.size() == ws.size(), "dessilbi: ", steps.size(), " step counters for ", ws.size(), " parameters");
  for (const Tensor& step : steps) {
    TORCH_CHECK(step.numel() == 1, "dessilbi: a step counter of shape ", step.sizes(), ", which must be one number");
  }
  for (const int64_t k : parameters.taken) {
    const double step = steps[k].add_(1).item<double>();
    AT_DISPATCH_FLOATING_TYPES(ws[k].scalar_type(), "dessilbi", [&] {
      using T = scalar_t;
      update<T>(ws[k], gradients[k], zs[k], by_filter, lr, kappa, mu,
                Adam<T>{T(beta1), T(beta2), T(eps), T(weight_decay), T(1 - std::pow(beta1, step)),
                        T(1 - std::pow(beta2, step)), means[k].data_ptr<T>(), squares[k].data_ptr<T>()});
    });
  }
  return parameters.left;
}

TORCH_LIBRARY(dessilbi, m) {
  m.def("sgd(Tensor(a!)[] w, Tensor[] g, Tensor(b!)[] buffers, Tensor(c!)[] z, bool by_filter, float lr, "
        "float kappa, float mu, float momentum, float dampening, float weight_decay) -> int[]", &sgd);
  m.def("adam(Tensor(a!)[] w, Tensor[] g, Tensor(b!)[] means, Tensor(c!)[] squares, Tensor(d!)[] steps, "
        "Tensor(e!)[] z, bool by_filter, float lr, float kappa, float mu, float beta1, float beta2, float eps, "
        "float weight_decay) -> int[]", &adam);
}
