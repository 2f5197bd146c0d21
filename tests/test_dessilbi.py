"""Tests of both optimizers: equal to a literal loop from the equations at every step, and at home in torch.optim."""

import copy
import functools
import io
import math
import os
import pickle
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from helpers import dessilbi, models
from helpers.dessilbi import DessiLBI, DessiLBIAdam, group_soft_threshold, soft_threshold
from helpers.fast import sparse_step

# ------------------------------------------------------------------------------------------ compiled, or not

COMPILER = (shlex.split(os.environ.get("CXX", "")) or ["c++"])[0]
needs_compiler = pytest.mark.skipif(not shutil.which(COMPILER), reason="needs a C++ compiler")


class FusedDessiLBI(DessiLBI):
    def __init__(self, *args, **options):
        super().__init__(*args, fused=True, **options)


class FusedDessiLBIAdam(DessiLBIAdam):
    def __init__(self, *args, **options):
        super().__init__(*args, fused=True, **options)


def compiled_too(kind, fused):
    return pytest.mark.parametrize("kind", [kind, pytest.param(fused, marks=needs_compiler)])


FUSED = [pytest.param(kind, marks=needs_compiler) for kind in (FusedDessiLBI, FusedDessiLBIAdam)]
BOTH = pytest.mark.parametrize("kind", [DessiLBI, DessiLBIAdam, *FUSED])
ADAM = [DessiLBIAdam, FUSED[1]]

# ------------------------------------------------------------------------------------------ the literal loops


def prox(z, penalty):
    """The proximal maps, number by number and filter by filter."""
    out = torch.zeros_like(z)
    if penalty == "l1":
        for index in range(z.numel()):
            value = z.view(-1)[index].item()
            out.view(-1)[index] = math.copysign(max(0.0, abs(value) - 1), value)
    elif penalty == "group":
        for f in range(len(z)):
            norm = math.sqrt(sum(value * value for value in z[f].flatten().tolist()))
            out[f] = 0 if norm <= 1 else z[f] * (1 - 1 / norm)
    return out


class Sgd:
    """The direction of SGD with momentum, as torch defines it."""

    def __init__(self, momentum=0.0, dampening=0.0, weight_decay=0.0):
        self.momentum, self.dampening, self.weight_decay, self.buffer = momentum, dampening, weight_decay, None

    def __call__(self, gradient, w):
        d = gradient + self.weight_decay * w
        if self.momentum == 0:
            return d
        self.buffer = d.clone() if self.buffer is None else self.momentum * self.buffer + (1 - self.dampening) * d
        return self.buffer

    def state(self):
        return {} if self.buffer is None else {"momentum_buffer": self.buffer}


class Adam:
    """Adam's bias-corrected direction: Kingma and Ba, 2015, algorithm 1."""

    def __init__(self, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        self.betas, self.eps, self.weight_decay, self.t, self.m, self.v = betas, eps, weight_decay, 0, 0.0, 0.0

    def __call__(self, gradient, w):
        d = gradient + self.weight_decay * w
        self.t += 1
        self.m = self.betas[0] * self.m + (1 - self.betas[0]) * d
        self.v = self.betas[1] * self.v + (1 - self.betas[1]) * d * d
        return self.m / (1 - self.betas[0] ** self.t) / ((self.v / (1 - self.betas[1] ** self.t)).sqrt() + self.eps)

    def state(self):
        return {"exp_avg": self.m, "exp_avg_sq": self.v}


class Literal:
    """The equations of the module's docstring, one parameter at a time."""

    def __init__(self, w, direction, lr, kappa, mu, penalty):
        self.w, self.direction, self.penalty = w.clone(), direction, penalty
        self.lr, self.kappa, self.mu = lr, kappa, mu
        self.z, self.gamma = torch.zeros_like(w), torch.zeros_like(w)

    def step(self, gradient):
        d, old = self.direction(gradient, self.w), self.w
        if self.penalty is None:
            self.w = old - self.kappa * self.lr * d
            return
        self.w = old - self.kappa * self.lr * (d + (old - self.gamma) / self.mu)
        self.z = self.z + self.lr / self.mu * (old - self.gamma)
        self.gamma = self.kappa * prox(self.z, self.penalty)


def double(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


SHAPES = {"group": (5, 2, 3, 3), "l1": (4, 6), None: (7,)}


def compare(make, direction, penalty, *, lr=0.1, kappa=1.0, mu=2.0, steps=100, shape=None):
    """Runs both on one stream of gradients that depend on W, and compares all that they hold at each step."""
    shape = shape or SHAPES[penalty]
    sizes = torch.logspace(-1.5, 0.3, shape[0], dtype=torch.float64).view(-1, *[1] * (len(shape) - 1))
    start = sizes * double(*shape)  # large filters enter the support early, small ones late or never
    parameter = nn.Parameter(start.clone())
    others = [] if penalty else [{"params": [nn.Parameter(double(2, 2))], "penalty": "l1"}]
    optimizer = make([{"params": [parameter], "penalty": penalty}, *others], lr=lr, kappa=kappa, mu=mu)
    literal, target = Literal(start, direction, lr, kappa, mu, penalty), sizes * double(*shape, seed=1)
    supports = set()
    for step in range(steps):
        noise = 0.1 * sizes * double(*shape, seed=2 + step)
        parameter.grad = (parameter.detach() - target) + noise
        literal.step((literal.w - target) + noise)
        optimizer.step()
        state = optimizer.state[parameter]
        expected = {**direction.state(), **({"z": literal.z} if penalty else {})}
        assert set(state) - {"step"} == set(expected)
        for name, value in {"w": literal.w, **expected}.items():
            mine = parameter.detach() if name == "w" else state[name]
            torch.testing.assert_close(mine, value, rtol=1e-10, atol=1e-10, msg=f"{name} at step {step}")
        if penalty:
            torch.testing.assert_close(optimizer.gamma(parameter), literal.gamma, rtol=1e-10, atol=1e-10)
            supports.add(int((literal.gamma != 0).sum()))
    if penalty:
        assert len(supports) > 2, "Γ never changed its support: the test would not see the proximal map"


SGD_OPTIONS = [
    {"momentum": 0.0}, {"momentum": 0.9}, {"momentum": 0.9, "weight_decay": 0.01},
    {"momentum": 0.0, "weight_decay": 0.01}, {"momentum": 0.5, "dampening": 0.3, "weight_decay": 0.1},
]  # fmt: skip


@pytest.mark.parametrize("penalty", ["group", "l1", None])
@pytest.mark.parametrize("options", SGD_OPTIONS, ids=str)
@pytest.mark.parametrize("kappa, mu", [(1.0, 2.0), (5.0, 3.0)])
@compiled_too(DessiLBI, FusedDessiLBI)
def test_dessilbi_is_the_literal_loop(kind, penalty, options, kappa, mu):
    lr = 0.4 / kappa
    compare(lambda p, **k: kind(p, **k, **options), Sgd(**options), penalty, lr=lr, kappa=kappa, mu=mu)


@pytest.mark.parametrize("penalty", ["group", "l1", None])
@pytest.mark.parametrize("options", [{}, {"betas": (0.5, 0.9), "eps": 1e-3}, {"weight_decay": 0.1}], ids=str)
@pytest.mark.parametrize("kappa, mu", [(1.0, 2.0), (5.0, 4.0)])
@compiled_too(DessiLBIAdam, FusedDessiLBIAdam)
def test_dessilbi_adam_is_the_literal_loop(kind, penalty, options, kappa, mu):
    lr = 0.4 / kappa
    compare(lambda p, **k: kind(p, **k, **options), Adam(**options), penalty, lr=lr, kappa=kappa, mu=mu)


@pytest.mark.parametrize("penalty", ["group", "l1", None])
@pytest.mark.parametrize("block", [1, 7, 20, 1000])
def test_blocks_change_nothing(penalty, block, monkeypatch):
    monkeypatch.setattr(dessilbi, "BLOCK", block)
    options = {"momentum": 0.5, "dampening": 0.3, "weight_decay": 0.1}
    compare(lambda p, **k: DessiLBI(p, **k, **options), Sgd(**options), penalty, lr=0.4, steps=30)
    compare(lambda p, **k: DessiLBIAdam(p, **k), Adam(), penalty, lr=0.4, steps=30)


@compiled_too(DessiLBI, FusedDessiLBI)
def test_the_group_penalty_takes_linear_weights_too(kind):
    compare(lambda p, **k: kind(p, **k), Sgd(0.9), "group", lr=0.4, shape=(6, 4))


@compiled_too(DessiLBI, FusedDessiLBI)
def test_the_l1_penalty_takes_vectors_too(kind):
    compare(lambda p, **k: kind(p, **k), Sgd(0.9), "l1", lr=0.4, shape=(24,))


# ------------------------------------------------------------------------------------------ proximal maps


def test_soft_threshold_by_hand():
    z = torch.tensor([-3.0, -1.0, -0.5, 0.0, 0.25, 1.0, 1.5])
    assert soft_threshold(z).tolist() == [-2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5]


def test_group_soft_threshold_by_hand():
    z = torch.tensor([[3.0, 4.0], [0.6, 0.8], [0.3, -0.4], [0.0, 0.0], [0.0, -2.0]])
    torch.testing.assert_close(
        group_soft_threshold(z), torch.tensor([[2.4, 3.2], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, -1.0]])
    )


shapes = st.lists(st.integers(1, 4), min_size=2, max_size=4).map(tuple)
magnitudes = st.sampled_from([0.0, 1e-300, 1e-30, 1e-6, 0.5, 1.0, 1 + 1e-9, 3.0, 1e6, 1e30, 1e150])


@given(shapes, st.lists(magnitudes, min_size=1, max_size=4), st.integers(0, 9))
def test_proximal_maps_at_any_shape_and_size(shape, sizes, seed):
    z = double(*shape, seed=seed)
    for f in range(len(z)):
        z[f] *= sizes[f % len(sizes)]
    for penalty, mine in (("l1", soft_threshold(z)), ("group", group_soft_threshold(z))):
        torch.testing.assert_close(mine, prox(z, penalty), rtol=1e-12, atol=1e-12)
        assert (mine * z >= 0).all() and (mine.abs() <= z.abs()).all()  # shrinks, and keeps the sign


@BOTH
@given(shape=shapes, size=magnitudes, penalty=st.sampled_from(["group", "l1"]))
def test_steps_stay_finite_at_zero_tiny_and_huge_values(kind, shape, size, penalty):
    size = min(size, 1e100)
    parameter = nn.Parameter(double(*shape) * size)
    optimizer = kind([{"params": [parameter], "penalty": penalty}], lr=0.1, mu=20)
    for seed in range(3):
        parameter.grad = double(*shape, seed=seed) * size
        optimizer.step()
    assert parameter.isfinite().all() and optimizer.gamma(parameter).isfinite().all()


@BOTH
def test_a_tiny_float32_filter_leaves_no_nan(kind):
    parameter = nn.Parameter(torch.full((2, 3, 3, 3), 1e-30))
    optimizer = kind([{"params": [parameter], "penalty": "group"}], lr=0.1)
    for _ in range(3):
        parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    assert parameter.isfinite().all() and (optimizer.gamma(parameter) == 0).all()


# ------------------------------------------------------------------------------------------ limits


def net(dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4 * 4, 5)).to(
        dtype
    )


def train(model, optimizer, steps=20, seed=0):
    dtype = next(model.parameters()).dtype
    for step in range(steps):
        images = double(8, 1, 6, 6, seed=100 * seed + step).to(dtype)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), torch.arange(8) % 5).backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize("mu", [math.inf, 1e14])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.01}])
def test_without_coupling_they_are_sgd_and_adam(mu, options):
    for mine, theirs in (
        (lambda m: DessiLBI(dessilbi.param_groups(m), 0.05, mu=mu, **options),
         lambda m: torch.optim.SGD(m.parameters(), 0.05, momentum=0.9, **options)),
        (lambda m: DessiLBIAdam(dessilbi.param_groups(m), 0.01, mu=mu, **options),
         lambda m: torch.optim.Adam(m.parameters(), 0.01, **options)),
    ):  # fmt: skip
        one, other = net(), net()
        for a, b in zip(train(one, mine(one)), train(other, theirs(other))):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_kappa_multiplies_the_rate_of_w_alone():
    start, results = double(4, 3), []
    for lr, kappa in ((0.2, 1.0), (0.02, 10.0)):
        parameter = nn.Parameter(start.clone())
        optimizer = DessiLBI([{"params": [parameter], "penalty": "l1"}], lr, kappa=kappa, mu=4, momentum=0)
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        results.append((parameter.detach().clone(), optimizer.state[parameter]["z"].clone()))
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], 10 * results[1][1])


def test_it_finds_the_features_that_matter():
    """A linear model of 40 features of which 5 count: they enter the support first, which pruning builds on."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(400, 40, generator=generator, dtype=torch.float64)
    truth = torch.zeros(40, dtype=torch.float64)
    truth[:5] = torch.tensor([3.0, -2.0, 2.5, -3.0, 2.0])
    model = nn.Linear(40, 1, bias=False, dtype=torch.float64)
    optimizer = DessiLBI(dessilbi.param_groups(model), lr=0.02, mu=1, momentum=0)
    order = []
    for _ in range(3000):
        optimizer.zero_grad()
        ((model(features)[:, 0] - features @ truth) ** 2).mean().backward()
        optimizer.step()
        order += [i for i in optimizer.gamma(model.weight)[0].nonzero()[:, 0].tolist() if i not in order]
    assert set(order[:5]) == set(range(5))
    assert (optimizer.gamma(model.weight)[0, :5] - truth[:5]).abs().max() < 0.05


# ------------------------------------------------------------------------------------------ as torch.optim has it


def make(kind, model, **options):
    return kind(dessilbi.param_groups(model), lr=0.05, mu=0.3, **options)


@BOTH
def test_what_has_no_gradient_stays(kind):
    model = net()
    optimizer = make(kind, model)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    model[4].weight.grad = torch.ones_like(model[4].weight)
    optimizer.step()
    changed = [not torch.equal(a, b) for a, b in zip(before, model.parameters())]
    assert changed == [parameter is model[4].weight for parameter in model.parameters()]
    assert len(optimizer.state) == 1 and (optimizer.gamma(model[0].weight) == 0).all()


@BOTH
def test_a_gradient_that_comes_later_starts_as_a_first_one(kind):
    """Whether a parameter's first gradient comes at step 0 or at step 3 makes no difference to it."""
    options = {"dampening": 0.5} if not issubclass(kind, DessiLBIAdam) else {}
    results = []
    for late in (0, 3):
        model = net()
        optimizer, weight = make(kind, model, **options), model[4].weight
        for step in range(late + 4):
            model[0].weight.grad = torch.ones_like(model[0].weight)
            weight.grad = None if step < late else double(*weight.shape, seed=step - late)
            optimizer.step()
        results.append(weight.detach())
    torch.testing.assert_close(results[0], results[1])


@BOTH
def test_closure(kind):
    one, other = net(), net()
    images, labels = double(8, 1, 6, 6), torch.arange(8) % 5
    with_closure, without = make(kind, one), make(kind, other)

    def closure():
        with_closure.zero_grad()
        loss = nn.functional.cross_entropy(one(images), labels)
        loss.backward()
        return loss

    for _ in range(3):
        loss = with_closure.step(closure)
        without.zero_grad()
        expected = nn.functional.cross_entropy(other(images), labels)
        expected.backward()
        assert without.step() is None
        assert loss.item() == expected.item()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters()))


@BOTH
def test_a_scheduler_changes_the_rate(kind):
    model, frozen = net(), net()
    optimizer = make(kind, model)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.0 if epoch else 1.0)
    train(model, optimizer, 3)
    scheduler.step()
    frozen.load_state_dict(model.state_dict())
    train(model, optimizer, 3)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), frozen.parameters()))


@BOTH
def test_groups_have_values_of_their_own(kind):
    a, b = nn.Parameter(double(3, 4)), nn.Parameter(double(3, 4))
    optimizer = kind([{"params": [a], "penalty": "l1", "lr": 0.1, "kappa": 2.0, "mu": 3.0},
                      {"params": [b], "penalty": "group"}], lr=0.4, kappa=1.0, mu=2.0)  # fmt: skip
    direction = (lambda: Sgd(0.9)) if not issubclass(kind, DessiLBIAdam) else Adam
    literal = [Literal(a.detach(), direction(), 0.1, 2.0, 3.0, "l1"),
               Literal(b.detach(), direction(), 0.4, 1.0, 2.0, "group")]  # fmt: skip
    for seed in range(30):
        for parameter, loop in zip((a, b), literal):
            parameter.grad = double(3, 4, seed=seed)
            loop.step(parameter.grad)
        optimizer.step()
    for parameter, loop in zip((a, b), literal):
        torch.testing.assert_close(parameter.detach(), loop.w, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(optimizer.gamma(parameter), loop.gamma, rtol=1e-10, atol=1e-10)


@BOTH
def test_a_group_can_be_added(kind):
    model, extra = net(), nn.Parameter(double(3, 4))
    optimizer = make(kind, model)
    optimizer.add_param_group({"params": [("extra", extra)], "penalty": "l1"})
    extra.grad = torch.ones_like(extra)
    optimizer.step()
    assert "z" in optimizer.state[extra] and optimizer.param_groups[-1]["mu"] == 0.3


@BOTH
def test_a_group_that_is_not_allowed_is_not_added(kind):
    optimizer = make(kind, net())
    count = len(optimizer.param_groups)
    with pytest.raises(ValueError, match="lr -1 is not allowed"):
        optimizer.add_param_group({"params": [("extra", nn.Parameter(double(3)))], "lr": -1})
    assert len(optimizer.param_groups) == count


def through_file(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saved_loaded_and_continued_gives_identical_numbers(kind, dtype):
    model = net(dtype)
    optimizer = make(kind, model)
    train(model, optimizer, 5)
    for weight in (model[0].weight, model[4].weight):
        optimizer.state[weight]["z"].mul_(20)  # so that Γ is not 0
    saved = through_file({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    expected = train(model, optimizer, 10, seed=1)
    again = net(dtype)
    other = kind(dessilbi.param_groups(again), lr=0.9, mu=77)
    again.load_state_dict(saved["model"])
    other.load_state_dict(saved["optimizer"])
    assert all(torch.equal(a, b) for a, b in zip(train(again, other, 10, seed=1), expected))
    for mine, theirs in ((model[0].weight, again[0].weight), (model[4].weight, again[4].weight)):
        assert optimizer.gamma(mine).any() and torch.equal(optimizer.gamma(mine), other.gamma(theirs))


@BOTH
def test_a_state_that_leaves_something_out_takes_it_from_here(kind):
    """As one saved by SGD, which knows neither κ nor ν; whether the step is compiled is for this machine to say."""
    optimizer = make(kind, net(), kappa=3)
    saved = optimizer.state_dict()
    for group in saved["param_groups"]:
        del group["kappa"], group["penalty"]
        group["fused"], group["lr"] = not group["fused"], 0.7
    other = make(kind, net(), kappa=5)
    other.load_state_dict(saved)
    fused = other.defaults["fused"]
    assert [(group["lr"], group["kappa"], group["fused"]) for group in other.param_groups] == [(0.7, 5, fused)] * 3
    assert [group["penalty"] for group in other.param_groups] == ["group", "l1", None]


@BOTH
def test_a_state_with_a_value_that_is_not_allowed_is_refused_and_nothing_changes(kind):
    optimizer = make(kind, net())
    saved = copy.deepcopy(optimizer.state_dict())
    saved["param_groups"][1]["mu"] = -1.0
    with pytest.raises(ValueError, match="mu -1.0 is not allowed: it must be a number above 0"):
        optimizer.load_state_dict(saved)
    assert optimizer.param_groups[1]["mu"] == 0.3


def test_a_momentum_that_is_switched_on_later_begins_with_a_whole_gradient():
    """As in torch.optim.SGD, at the same rate: dampening holds from the second step with a momentum on."""
    weights = [nn.Parameter(double(3, 4)) for _ in range(2)]
    other = nn.Parameter(double(2, 2))
    groups = [{"params": weights[:1], "penalty": None}, {"params": [other], "penalty": "l1"}]
    ours = DessiLBI(groups, lr=0.1, momentum=0.0, dampening=0.5)
    theirs = torch.optim.SGD(weights[1:], lr=0.1, momentum=0.0, dampening=0.5)
    for step in range(4):
        for optimizer in (ours, theirs):
            optimizer.param_groups[0]["momentum"] = 0.0 if step == 0 else 0.9
        for weight in weights:
            weight.grad = double(3, 4, seed=step)
        ours.step()
        theirs.step()
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=1e-12)


@BOTH
def test_a_graph_from_before_the_step_is_out_of_date(kind):
    weight = nn.Parameter(double(3, 4))
    optimizer = kind([{"params": [weight], "penalty": "group"}], lr=0.1)
    loss = (weight**2).sum()
    weight.grad = double(3, 4, seed=1)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@BOTH
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_goes_on_like_the_original(kind, copied):
    model = net()
    optimizer = make(kind, model)
    train(model, optimizer, 5)
    twin, its_optimizer = copied((model, optimizer))
    assert all(torch.equal(a, b) for a, b in zip(train(model, optimizer, 5), train(twin, its_optimizer, 5)))


@BOTH
def test_a_compiled_model_trains_the_same(kind):
    plain, other = net(), net()
    compiled = torch.compile(other, backend="eager")
    for a, b in zip(train(plain, make(kind, plain), 5), train(compiled, make(kind, compiled), 5)):
        assert torch.equal(a, b)


@BOTH
@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_a_compiled_step_is_the_same_step(kind, backend):
    plain, other = net(), net()
    optimizer, its_optimizer = make(kind, plain), make(kind, other)
    torch.compiler.reset()
    compiled = torch.compile(its_optimizer.step, backend=backend)
    for step in range(3):
        for a, b in zip(plain.parameters(), other.parameters()):
            a.grad = double(*a.shape, seed=step)
            b.grad = a.grad.clone()
        optimizer.step()
        compiled()
    for a, b in zip(plain.parameters(), other.parameters()):
        torch.testing.assert_close(a, b)


@BOTH
def test_the_memory_format_changes_nothing(kind):
    plain, other = net(), net().to(memory_format=torch.channels_last)
    results = []
    for model in (plain, other):
        optimizer = make(kind, model)
        for step in range(10):
            for index, parameter in enumerate(model.parameters()):
                parameter.grad = torch.empty_like(parameter).copy_(double(*parameter.shape, seed=50 * step + index))
            optimizer.step()
        results.append([*model.parameters(), optimizer.gamma(model[0].weight)])
    for a, b in zip(*results):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@BOTH
def test_a_gradient_scaler_leaves_out_a_step_with_infinite_gradients(kind):
    model = net(torch.float32)
    optimizer, scaler = make(kind, model), torch.amp.GradScaler("cpu", init_scale=8.0)
    reference = net(torch.float32)
    its_optimizer = make(kind, reference)
    scaler.scale(torch.ones(()))  # a scaler begins with its first loss
    for infinite in (False, True, False):
        for (name, mine), theirs in zip(model.named_parameters(), reference.parameters()):
            theirs.grad = torch.ones_like(theirs)
            mine.grad = torch.full_like(mine, math.inf if infinite and name == "0.weight" else scaler.get_scale())
        scaler.step(optimizer)
        scaler.update()
        if not infinite:
            its_optimizer.step()
    for mine, theirs in zip(model.parameters(), reference.parameters()):
        torch.testing.assert_close(mine, theirs)


@BOTH
def test_gradients_are_left_as_they_are(kind):
    model = net()
    optimizer = make(kind, model, weight_decay=0.1)
    for step in range(3):
        gradients = [double(*parameter.shape, seed=step) for parameter in model.parameters()]
        for parameter, gradient in zip(model.parameters(), gradients):
            parameter.grad = gradient.clone()
        optimizer.step()
        assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients))


@BOTH
@pytest.mark.parametrize("option", ["foreach", "capturable", "differentiable", "maximize", "nesterov", "amsgrad"])
def test_an_option_of_torchs_that_it_lacks_is_refused_in_one_line(kind, option):
    with pytest.raises(TypeError, match=rf"^[^\n]* unexpected keyword argument '{option}'$"):
        kind(dessilbi.param_groups(net()), lr=0.1, **{option: True})


@BOTH
@pytest.mark.parametrize("option", ["differentiable", "maximize", "nesterov", "amsgrad"])
def test_such_an_option_of_a_group_or_a_state_is_not_passed_over(kind, option):
    with pytest.raises(ValueError, match=f"^{option} True is not allowed: it must be False$"):
        kind([{"params": [nn.Parameter(double(3, 4))], "penalty": "l1", option: True}], lr=0.1)
    optimizer = make(kind, net())
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        group.update({"foreach": None, option: False})  # as torch's optimizers save them
    optimizer.load_state_dict(state)
    state["param_groups"][0][option] = True
    with pytest.raises(ValueError, match=f"the state doesn't fit: {option} True is not allowed"):
        optimizer.load_state_dict(state)


@BOTH
def test_a_rate_can_be_a_tensor_that_a_scheduler_changes(kind):
    plain, other = net(), net()
    results = []
    for model, lr in ((plain, 0.1), (other, torch.tensor(0.1, dtype=torch.float64))):
        optimizer = kind(dessilbi.param_groups(model), lr=lr, mu=0.3)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        for _ in range(4):
            for parameter in model.parameters():
                parameter.grad = torch.ones_like(parameter)
            optimizer.step()
            scheduler.step()
        results.append([*model.parameters(), optimizer.gamma(model[0].weight)])
    for a, b in zip(*results):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert isinstance(optimizer.param_groups[0]["lr"], torch.Tensor)


@BOTH
@pytest.mark.parametrize("penalty", ["group", None])
def test_a_scheduler_moves_momentum_or_betas(kind, penalty):
    """Each step is that of an optimizer which was given the values of the moment."""
    adam = issubclass(kind, DessiLBIAdam)
    weights = [nn.Parameter(double(3, 4)) for _ in range(2)]
    other = {"params": [nn.Parameter(double(1))], "penalty": "l1"}
    moved, by_hand = (kind([{"params": [w], "penalty": penalty}, dict(other)], lr=0.1, mu=0.5) for w in weights)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(moved, max_lr=0.2, total_steps=6)
    seen = set()
    for step in range(5):
        for name in ("lr", "betas" if adam else "momentum"):
            by_hand.param_groups[0][name] = moved.param_groups[0][name]
        seen.add(moved.param_groups[0]["betas" if adam else "momentum"])
        for w, optimizer in zip(weights, (moved, by_hand)):
            w.grad = double(3, 4, seed=step)
            optimizer.step()
        scheduler.step()
        assert torch.equal(*weights)
    assert len(seen) == 5


@BOTH
def test_a_scheduler_of_all_groups_sees_their_rates(kind):
    optimizer = kind([{"params": [nn.Parameter(double(3, 4))], "penalty": "l1", "lr": 0.2},
                      {"params": [nn.Parameter(double(3))]}], lr=0.4)  # fmt: skip
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    assert scheduler.get_last_lr() == [0.2, 0.4] and optimizer.param_groups[0]["initial_lr"] == 0.2


@BOTH
def test_a_state_of_torchs_own_goes_on_as_it_would_there(kind):
    """Without coupling, that is."""
    model = net()
    groups = [{"params": [p for _, p in group["params"]]} for group in dessilbi.param_groups(model)]
    adam = issubclass(kind, DessiLBIAdam)
    optimizer = torch.optim.Adam(groups, 0.01) if adam else torch.optim.SGD(groups, 0.01, momentum=0.9)
    train(model, optimizer, 5)
    again = copy.deepcopy(model)
    resumed = kind(dessilbi.param_groups(again), 0.7, mu=math.inf)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for a, b in zip(train(model, optimizer, 5, seed=1), train(again, resumed, 5, seed=1)):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


# ------------------------------------------------------------------------------------------ in one pass


@pytest.fixture
def left(monkeypatch):
    """How many parameters the compiled step left to the usual one, call by call."""
    counts, step = [], sparse_step.step

    def counting(*args):
        others = step(*args)
        counts.append(len(others))
        return others

    monkeypatch.setattr(sparse_step, "step", counting)
    return counts


def _three_steps(kind, weight, gradients, penalty):
    parameter = nn.Parameter(weight.clone(memory_format=torch.preserve_format))
    optimizer = kind([{"params": [parameter], "penalty": penalty}], lr=0.1, mu=2)
    for gradient in gradients:
        parameter.grad = gradient
        optimizer.step()
    return parameter.detach().contiguous(), optimizer.gamma(parameter).contiguous()


@pytest.mark.parametrize("penalty", ["group", "l1"])
@pytest.mark.parametrize("kind", [dessilbi.DessiLBI, dessilbi.DessiLBIAdam])
@pytest.mark.parametrize("of_weight", ["transposed", "channels_last"])
@pytest.mark.parametrize("of_gradient", ["as the weight", "contiguous"])
def test_the_layout_in_memory_changes_nothing(of_weight, of_gradient, kind, penalty, monkeypatch):
    monkeypatch.setattr(dessilbi, "BLOCK", 100)  # so that the weight is split
    shape = (30, 20) if of_weight == "transposed" else (6, 4, 5, 5)
    generator = torch.Generator().manual_seed(0)
    weight, *gradients = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(4))

    def lay(tensor):
        if of_weight == "transposed":
            return tensor.t().contiguous().t()
        return tensor.to(memory_format=torch.channels_last)

    given = [lay(each) for each in gradients] if of_gradient == "as the weight" else gradients
    expected = _three_steps(kind, weight, gradients, penalty)
    for found, right in zip(_three_steps(kind, lay(weight), given, penalty), expected, strict=True):
        assert (found - right).abs().max() < 1e-12


@needs_compiler
@pytest.mark.parametrize("kind", [FusedDessiLBI, FusedDessiLBIAdam])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_compiled_step_takes_every_penalised_weight(kind, memory_format, left):
    model = net(torch.float32).to(memory_format=memory_format)
    train(model, make(kind, model), 3)
    assert left == [0] * 6  # three steps, two penalties


@needs_compiler
@pytest.mark.parametrize("kind, plain", [(FusedDessiLBI, DessiLBI), (FusedDessiLBIAdam, DessiLBIAdam)])
@pytest.mark.parametrize("change", [
    lambda weight: weight.bfloat16(), lambda weight: weight.transpose(0, 1),
    lambda weight: weight.permute(3, 0, 1, 2),
], ids=["bfloat16", "transposed", "permuted"])  # fmt: skip
@pytest.mark.filterwarnings("ignore:weights of 16 bits")
def test_what_the_compiled_step_does_not_take_goes_the_usual_way(kind, plain, change):
    results = []
    for each in (kind, plain):
        weight = nn.Parameter(change(double(5, 4, 3, 3)))
        other = nn.Parameter(double(5, 4, 3, 3).to(weight.dtype))  # taken, unless it is bfloat16 as well
        optimizer = each([{"params": [weight, other], "penalty": "group"}], lr=0.4, mu=2.0)
        for step in range(20):
            weight.grad = change(double(5, 4, 3, 3, seed=step))
            other.grad = double(5, 4, 3, 3, seed=step).to(other.dtype)
            optimizer.step()
        results.append((weight.detach(), other.detach(), optimizer.gamma(weight), optimizer.gamma(other)))
    for mine, theirs in zip(*results):
        torch.testing.assert_close(mine, theirs)


@needs_compiler
@pytest.mark.parametrize("kind", [FusedDessiLBI, FusedDessiLBIAdam])
def test_threads_change_nothing(kind):
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            parameter = nn.Parameter(double(64, 64, 5, 5))
            optimizer = kind([{"params": [parameter], "penalty": "group"}], lr=0.4, mu=2.0)
            for step in range(5):
                parameter.grad = double(64, 64, 5, 5, seed=step)
                optimizer.step()
            results.append((parameter.detach(), optimizer.gamma(parameter)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results)) and results[0][1].any()


def test_a_missing_compiler_gets_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(sparse_step, "kernel", functools.cache(sparse_step.kernel.__wrapped__))
    monkeypatch.setattr(torch.ops, "loaded_libraries", set())  # as in a new process
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    with pytest.raises(RuntimeError) as raised:
        FusedDessiLBI(dessilbi.param_groups(net()), lr=0.1)
    assert str(raised.value).startswith("fused=True needs a C++ compiler: ")
    assert "\n" not in str(raised.value) and not list(tmp_path.glob("*.so"))


# ------------------------------------------------------------------------------------------ a state that doesn't fit


def linear(*sizes):
    """Linear layers of these (inputs, outputs), which don't fit each other: nothing goes through them."""
    return nn.Sequential(*(nn.Linear(*each) for each in sizes))


def stepped(kind, model, only=None):
    optimizer = kind(dessilbi.param_groups(model, only), lr=0.1)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer


@BOTH
@pytest.mark.parametrize("saved, here, named", [
    ([(64, 31)], [(64, 32)], "for parameter 0.weight: it must be torch.Size([32, 64])"),  # smaller
    ([(64, 33)], [(64, 32)], "for parameter 0.weight"),  # larger
    ([(3, 4)], [(2, 6)], "for parameter 0.weight"),  # as many, in another shape
    ([(6, 5), (84, 10)], [(6, 5), (84, 100)], "for parameter 1.weight"),  # the second layer alone
], ids=str)  # fmt: skip
def test_a_state_of_other_shapes_is_refused_and_nothing_changes(kind, saved, here, named):
    state, optimizer = stepped(kind, linear(*saved)).state_dict(), stepped(kind, linear(*here))
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError) as raised:
        optimizer.load_state_dict(state)
    assert named in str(raised.value) and "\n" not in str(raised.value)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for mine, theirs in zip(after["state"].values(), before["state"].values()):
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


@BOTH
@pytest.mark.parametrize("named", [True, False])
def test_a_state_of_another_penalised_layer_is_refused(kind, named):
    """Both layers are of one shape, so that only names or penalties tell."""
    optimizers = []
    for layer in range(2):
        model = linear((4, 4), (4, 4))
        penalties = ["l1", None] if layer == 0 else [None, "l1"]
        plain = [{"params": [each.weight], "penalty": penalty} for each, penalty in zip(model, penalties)]
        groups = dessilbi.param_groups(model, str(layer)) if named else plain
        optimizers.append(kind(groups, lr=0.1))
    with pytest.raises(ValueError, match="the state doesn't fit: it has (0.weight|0) with penalty l1, not"):
        optimizers[1].load_state_dict(optimizers[0].state_dict())


@BOTH
@pytest.mark.parametrize("name, value", [
    ("z", torch.full((5, 4), math.nan)), ("z", torch.ones(4)), ("z", torch.ones(5, 4).to_sparse()), ("z", "abc"),
    ("z", torch.full((5, 4), 1e300, dtype=torch.float64)),
])  # fmt: skip
def test_a_state_that_is_no_numbers_of_the_right_shape_is_refused(kind, name, value):
    state = stepped(kind, linear((4, 5))).state_dict()
    state["state"][0][name] = value
    optimizer = kind(dessilbi.param_groups(linear((4, 5))), lr=0.1)
    with pytest.raises(ValueError, match="the state doesn't fit"):
        optimizer.load_state_dict(state)
    assert len(optimizer.state) == 0


@pytest.mark.parametrize("kind", ADAM)
@pytest.mark.parametrize("value", [torch.ones(3), torch.ones(1), torch.tensor(math.inf), torch.tensor(-1.0), "1", None])
def test_a_step_counter_that_is_none_is_refused(kind, value):
    state = stepped(kind, linear((4, 5))).state_dict()
    state["state"][1]["step"] = value
    with pytest.raises(ValueError, match="the state doesn't fit"):
        kind(dessilbi.param_groups(linear((4, 5))), lr=0.1).load_state_dict(state)


@pytest.mark.parametrize("kind", ADAM)
def test_a_step_counter_that_is_a_plain_number_is_taken(kind):
    state = stepped(kind, linear((4, 5))).state_dict()
    state["state"][0]["step"] = 7
    model = linear((4, 5))
    optimizer = kind(dessilbi.param_groups(model), lr=0.1)
    optimizer.load_state_dict(state)
    model[0].weight.grad = torch.ones(5, 4)
    optimizer.step()
    assert optimizer.state[model[0].weight]["step"] == 8


def replaced(optimizer, weight):
    weight.data = torch.ones(3, 4)


def resized(optimizer, weight):
    optimizer.state[weight]["z"].resize_(2, 4)


def broadcast(optimizer, weight):
    optimizer.state[weight]["z"] = torch.ones(1, 4)


def other_direction(optimizer, weight):
    name = "exp_avg" if isinstance(optimizer, DessiLBIAdam) else "momentum_buffer"
    optimizer.state[weight][name] = torch.ones(4, 5)


def other_step(optimizer, weight):
    optimizer.state[weight]["step"] = torch.ones(3)


def check_refused(kind, change, penalty):
    weight, other = nn.Parameter(torch.ones(5, 4)), nn.Parameter(torch.ones(2, 2))
    optimizer = kind([{"params": [("fc.weight", weight)], "penalty": penalty},
                      {"params": [("other", other)], "penalty": "l1"}], lr=0.1)  # fmt: skip
    weight.grad = torch.ones(5, 4)
    optimizer.step()
    change(optimizer, weight)
    before = weight.detach().clone()
    with pytest.raises(ValueError, match="for parameter fc.weight: it must be"):
        optimizer.step()
    assert torch.equal(weight, before)


@BOTH
@pytest.mark.parametrize("change, penalty", [
    (replaced, "l1"), (replaced, None), (resized, "group"), (broadcast, "l1"), (other_direction, "group"),
    (other_direction, None),
])  # fmt: skip
def test_what_no_longer_fits_is_refused_before_anything_is_written(kind, change, penalty):
    check_refused(kind, change, penalty)


@pytest.mark.parametrize("kind", ADAM)
@pytest.mark.parametrize("penalty", ["group", None])
def test_a_step_counter_that_no_longer_fits_is_refused(kind, penalty):
    check_refused(kind, other_step, penalty)


@needs_compiler
@pytest.mark.parametrize("place", range(5))
def test_the_compiled_operators_refuse_sizes_that_differ(place):
    """By themselves: whoever calls them, nothing is written past its end."""
    kernel = sparse_step.kernel()
    for index in range(2):
        tensors = [[torch.ones(5, 4), torch.ones(5, 4)] for _ in range(5)]
        tensors[place][index] = torch.ones(5, 3)
        w, g, z, mean, square = tensors
        with pytest.raises(RuntimeError, match="for weights of shape"):
            kernel.adam(w, g, mean, square, [torch.zeros(()), torch.zeros(())], z, True, *[0.1] * 7)
        if place < 4:
            with pytest.raises(RuntimeError, match="for weights of shape"):
                kernel.sgd(w, g, mean, z, True, *[0.1] * 6)
        assert all((t == 1).all() for each in tensors for t in each)
    with pytest.raises(RuntimeError, match="tensors for 2 parameters"):
        kernel.sgd([torch.ones(2, 2)] * 2, [torch.ones(2, 2)], [], [torch.ones(2, 2)] * 2, True, *[0.1] * 6)
    with pytest.raises(RuntimeError, match="a step counter of shape"):
        kernel.adam(*[[torch.ones(2, 2)]] * 4, [torch.ones(2)], [torch.ones(2, 2)], True, *[0.1] * 7)


@needs_compiler
@pytest.mark.parametrize("other", [torch.ones(5, 4).double(), torch.ones(4, 5).t(), torch.ones(5, 4).to_sparse()])
def test_the_compiled_operators_leave_what_lies_otherwise(other):
    w, z = torch.ones(5, 4), torch.ones(5, 4)
    assert sparse_step.kernel().sgd([w], [other], [], [z], True, *[0.1] * 6) == [0]
    assert (w == 1).all() and (z == 1).all()


@BOTH
def test_a_state_in_another_precision_than_the_weights_gets_one_line(kind):
    """As after model.double(): torch refuses it, and nothing is written past its end."""
    weight = nn.Parameter(torch.ones(5, 4))
    optimizer = kind([{"params": [weight], "penalty": "group"}], lr=0.1)
    weight.grad = torch.ones(5, 4)
    optimizer.step()
    weight.data, weight.grad = weight.data.double(), None
    weight.grad = torch.ones(5, 4, dtype=torch.float64)
    with pytest.raises((ValueError, RuntimeError)) as raised:
        optimizer.step()
    assert "\n" not in str(raised.value)


# ------------------------------------------------------------------------------------------ no ordinary numbers


@pytest.mark.parametrize("penalty", ["group", "l1"])
@pytest.mark.parametrize("name", ["DessiLBI", "DessiLBIAdam"])
@pytest.mark.parametrize("start", [math.nan, math.inf, 1e30, 3e38])
@needs_compiler
def test_numbers_without_measure_spoil_the_same_in_both_forms(name, penalty, start):
    """A NaN in W spoils its number, and through the norm of Z its filter; numbers whose squares overflow spoil none."""
    results = []
    for fused in (False, True):
        weight = nn.Parameter(torch.linspace(-2, 2, 4 * 18).view(4, 2, 3, 3))
        weight.data[1, 0, 0, 0] = start if start != 3e38 else 1.0
        optimizer = getattr(dessilbi, name)([{"params": [weight], "penalty": penalty}], lr=0.1, mu=2.0, fused=fused)
        for step in range(4):
            weight.grad = torch.ones_like(weight)
            optimizer.step()
            if step == 0 and start == 3e38:  # into Z itself
                optimizer.state[weight]["z"][1] = start
        results.append((weight.detach(), optimizer.state[weight]["z"], optimizer.gamma(weight)))
    for plain, fused in zip(*results):
        assert torch.equal(plain.isnan(), fused.isnan()) and torch.equal(plain.isinf(), fused.isinf())
        finite = plain.isfinite()
        torch.testing.assert_close(plain[finite], fused[finite], rtol=1e-4, atol=1e-5)
        assert finite[[0, 2, 3]].all()  # the other filters
    assert results[0][1].isfinite().all() or not math.isfinite(start)


def test_a_filter_whose_squares_overflow_keeps_its_direction():
    z = torch.tensor([[1e30, -1e30], [3.0, 4.0], [1e38, 3e38]])
    expected = torch.tensor([[1e30, -1e30], [2.4, 3.2], [1e38, 3e38]])
    torch.testing.assert_close(group_soft_threshold(z), expected)
    torch.testing.assert_close(group_soft_threshold(z.double() * 1e200), z.double() * 1e200)
    assert group_soft_threshold(torch.tensor([[math.nan, 1.0]])).isnan().all()


# ------------------------------------------------------------------------------------------ what is not allowed


@BOTH
def test_a_sparse_gradient_gets_one_sentence(kind):
    embedding = nn.Embedding(5, 3, sparse=True)
    optimizer = kind([{"params": embedding.named_parameters(), "penalty": "l1"}], lr=0.1)
    embedding(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(ValueError, match="the layout of gradient is torch.sparse_coo for parameter weight"):
        optimizer.step()


@BOTH
def test_complex_and_lazy_parameters_get_one_sentence(kind):
    with pytest.raises(ValueError, match="parameter 0 is complex: keep its real and imaginary parts"):
        kind([nn.Parameter(torch.ones(2, 2, dtype=torch.complex64))], lr=0.1)
    for lazy in (nn.LazyConv2d(3, 3), nn.LazyLinear(4), nn.Sequential(nn.Linear(2, 2), nn.LazyBatchNorm1d())):
        with pytest.raises(ValueError, match="weight has no shape yet: pass a batch through the model first"):
            kind(dessilbi.param_groups(lazy), lr=0.1)


def test_groups_of_a_lazy_model_serve_once_it_has_shapes():
    model = nn.Sequential(nn.LazyConv2d(3, 3))
    groups = dessilbi.param_groups(model)
    model(torch.ones(1, 1, 4, 4))
    assert DessiLBI(groups, lr=0.1).gamma(model[0].weight).shape == (3, 1, 3, 3)


NOT_NEGATIVE, POSITIVE = "a number of at least 0, and finite", "a number above 0, and finite"
TWO = "two numbers of at least 0 and below 1"


@pytest.mark.parametrize("kind, name, value, range_", [
    (DessiLBI, "lr", -0.1, NOT_NEGATIVE), (DessiLBI, "lr", math.nan, NOT_NEGATIVE),
    (DessiLBI, "lr", None, NOT_NEGATIVE), (DessiLBI, "lr", "0.1", NOT_NEGATIVE),
    (DessiLBI, "lr", torch.tensor([0.1, 0.2]), NOT_NEGATIVE), (DessiLBI, "kappa", 0.0, POSITIVE),
    (DessiLBI, "kappa", math.inf, POSITIVE),
    (DessiLBI, "mu", 0.0, "a number above 0"), (DessiLBI, "mu", math.nan, "a number above 0"),
    (DessiLBI, "momentum", 1.0, "a number of at least 0 and below 1"),
    (DessiLBI, "dampening", 1.5, "a number between 0 and 1"), (DessiLBI, "weight_decay", -1e-4, NOT_NEGATIVE),
    (DessiLBIAdam, "lr", torch.ones(2), NOT_NEGATIVE), (DessiLBIAdam, "mu", None, "a number above 0"),
    (DessiLBIAdam, "betas", (0.9, 1.0), TWO), (DessiLBIAdam, "betas", 0.9, TWO), (DessiLBIAdam, "eps", 0.0, POSITIVE),
])  # fmt: skip
def test_a_value_that_is_not_allowed_is_named(kind, name, value, range_):
    with pytest.raises(ValueError) as raised:
        kind(dessilbi.param_groups(net()), **{"lr": 0.1, name: value})
    assert str(raised.value) == f"{name} {value!r} is not allowed: it must be {range_}"


@BOTH
def test_an_unknown_penalty_is_named(kind):
    with pytest.raises(ValueError, match='penalty \'lasso\' is not allowed: it must be one of "group", "l1" and None'):
        kind([{"params": [nn.Parameter(double(3, 3))], "penalty": "lasso"}], lr=0.1)


@BOTH
def test_a_penalty_that_a_parameter_cannot_take_names_the_parameter(kind):
    model = net()
    with pytest.raises(ValueError, match=r'penalty "group" is not for parameter 0.bias of shape \(4,\)'):
        kind([{"params": model.named_parameters(), "penalty": "group"}], lr=0.1)
    with pytest.raises(ValueError, match=r'penalty "group" is not for parameter 1 of shape \(4,\)'):
        kind([{"params": [model[4].weight]}, {"params": list(model[0].parameters()), "penalty": "group"}], lr=0.1)


@BOTH
def test_no_penalty_at_all_gets_a_warning(kind):
    with pytest.warns(UserWarning, match="no parameter has a penalty"):
        kind(net().parameters(), lr=0.1)


@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_too_coarse_for_z_get_a_warning(kind, dtype):
    with pytest.warns(UserWarning, match="keep the weights in float32"):
        kind(dessilbi.param_groups(net().to(dtype)), lr=0.1)


def test_gamma_of_what_has_none():
    model = net()
    optimizer = make(DessiLBI, model)
    for parameter in (model[0].bias, nn.Parameter(torch.zeros(4))):
        with pytest.raises(ValueError, match=r"a parameter of shape \(4,\) has no Γ"):
            optimizer.gamma(parameter)
    assert len(optimizer.state) == 0


# ------------------------------------------------------------------------------------------ groups of a model


def names_by_penalty(groups):
    return {group["penalty"]: [name for name, _ in group["params"]] for group in groups}


def test_groups_of_lenet():
    assert names_by_penalty(dessilbi.param_groups(models.LeNet())) == {
        "group": [f"features.conv{i}.weight" for i in (1, 2, 3)],
        "l1": ["classifier.fc1.weight", "classifier.fc2.weight"],
        None: [f"features.conv{i}.bias" for i in (1, 2, 3)] + ["classifier.fc1.bias", "classifier.fc2.bias"],
    }


def test_only_some_layers_can_be_penalised():
    groups = names_by_penalty(dessilbi.param_groups(models.LeNet(), only=["features.conv3"]))
    assert groups["group"] == ["features.conv3.weight"] and "l1" not in groups and len(groups[None]) == 9
    with pytest.raises(ValueError, match="'conv3' is no convolution or linear layer of the model: it has feat"):
        dessilbi.param_groups(models.LeNet(), only=["conv3"])
    one_name = dessilbi.param_groups(models.LeNet(), only="features.conv3")
    assert names_by_penalty(one_name) == groups


class Words(nn.Module):
    """A bit of everything: embedding, attention, convolutions grouped, depthwise and transposed, a tied weight."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 4)
        self.layer = nn.TransformerEncoderLayer(4, 2, 8)
        self.other = nn.MultiheadAttention(4, 2, kdim=3, vdim=5)
        self.convs = nn.Sequential(nn.Conv1d(4, 8, 1, groups=2), nn.Conv1d(8, 8, 3, groups=8),
                                   nn.ConvTranspose1d(8, 2, 3))  # fmt: skip
        self.decode = nn.Linear(4, 9)
        self.decode.weight = self.embed.weight


ATTENTION = ["layer.self_attn.in_proj_weight", "layer.self_attn.out_proj.weight"]
LINEAR = ["layer.linear1.weight", "layer.linear2.weight"]
APART = [f"other.{each}_proj_weight" for each in "qkv"] + ["other.out_proj.weight"]
CONVS = [f"convs.{i}.weight" for i in range(3)]


def test_groups_hold_all_kinds_of_weights_each_once():
    groups = names_by_penalty(dessilbi.param_groups(Words()))
    assert (groups["group"], groups["l1"]) == (CONVS, [*ATTENTION, *LINEAR, *APART])
    assert "embed.weight" in groups[None]  # which `decode` shares
    assert sorted(sum(groups.values(), [])) == sorted(name for name, _ in Words().named_parameters())


@pytest.mark.parametrize("options, group, l1", [
    ({"linear": "group"}, [*ATTENTION, *LINEAR, *APART, *CONVS], None),
    ({"linear": None}, CONVS, None),
    ({"leave_out": nn.Linear}, CONVS, [ATTENTION[0], *APART[:3]]),
    ({"leave_out": ["convs", "layer.linear1", nn.MultiheadAttention, "layer.self_attn.out_proj", "other.out_proj"]},
     None, LINEAR[1:]),
    ({"only": "embed"}, ["embed.weight"], None),
    ({"only": nn.Embedding}, ["embed.weight"], None),
    ({"only": "decode"}, None, ["embed.weight"]),
    ({"only": [nn.Conv1d, "embed"], "leave_out": "decode"}, CONVS[:2], None),
    ({"only": ["layer.self_attn"]}, None, ATTENTION),
], ids=str)  # fmt: skip
def test_what_is_penalised_can_be_chosen(options, group, l1):
    groups = names_by_penalty(dessilbi.param_groups(Words(), **options))
    assert groups.get("group") == group and groups.get("l1") == l1
    assert sum(map(len, groups.values())) == len(list(Words().parameters()))


def test_a_name_of_no_layer_is_not_left_out_in_silence():
    for name in ("conv", "convs.7", "layer.norm1"):
        with pytest.raises(
            ValueError, match=f"'{name}' is no convolution or linear layer of the model: it has embed, "
        ):
            dessilbi.param_groups(Words(), leave_out=name)


@BOTH
def test_a_printed_optimizer_shows_which_parameter_has_which_penalty(kind):
    lines = [line.strip() for line in repr(kind(dessilbi.param_groups(Words()), lr=0.1)).splitlines()]
    assert f"param_names: {CONVS}" in lines and lines.count("penalty: group") == 1
    assert lines.index(f"param_names: {CONVS}") + 1 == lines.index("penalty: group")


@BOTH
def test_all_kinds_of_weights_take_a_step_and_become_sparse(kind):
    """Transposed convolutions by their input channels, units of linear layers and attention whole."""
    model = Words()
    optimizer = kind(dessilbi.param_groups(model, linear="group"), lr=0.1, mu=0.02, kappa=0.1)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for _ in range(3):
        optimizer.step()
    for name, parameter in model.named_parameters():
        if name in (*CONVS, *ATTENTION):
            rows = optimizer.gamma(parameter).flatten(1)
            assert rows.any() and (rows.count_nonzero(1).unique().tolist() in ([0, rows.shape[1]], [rows.shape[1]]))


@BOTH
@pytest.mark.parametrize("params", [
    lambda p: p, lambda p: [p], lambda p: iter([p]), lambda p: [("extra", p)],
])  # fmt: skip
def test_a_group_with_or_without_names_can_be_added_beside_named_ones(kind, params):
    model, extra = net(), nn.Parameter(double(3, 4))
    optimizer = make(kind, model)
    given = {"params": params(extra), "penalty": "l1"}
    optimizer.add_param_group(given)
    group = optimizer.param_groups[-1]
    assert group["params"] == [extra] and group["param_names"] in (["extra"], None) and "lr" not in given
    extra.grad = torch.ones_like(extra)
    optimizer.step()
    again = make(kind, net())
    again.add_param_group({"params": params(nn.Parameter(double(3, 4))), "penalty": "l1"})
    again.load_state_dict(optimizer.state_dict())
    with pytest.raises(TypeError, match="ordered"):
        optimizer.add_param_group({"params": {nn.Parameter(double(3))}})


def test_a_weight_that_is_computed_is_not_passed_over_in_silence():
    model = nn.Sequential(nn.Linear(3, 3), nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    with pytest.raises(ValueError, match="the weight of '1' is computed from other parameters: name it in `leave_out`"):
        dessilbi.param_groups(model)
    assert names_by_penalty(dessilbi.param_groups(model, only="0"))["l1"] == ["0.weight"]
    assert names_by_penalty(dessilbi.param_groups(model, leave_out="1"))["l1"] == ["0.weight"]


@pytest.mark.parametrize("name", ["MyNet", "MyResNet9", "VGG", "LeNet"])
def test_every_parameter_is_in_one_group(name):
    model = models.build(name)
    found = [parameter for group in dessilbi.param_groups(model) for _, parameter in group["params"]]
    assert len(found) == len(set(found)) == len(list(model.parameters()))
    with_bn = {name for group in dessilbi.param_groups(model) if group["penalty"] for name, p in group["params"]}
    assert all(dict(model.named_parameters())[name].ndim in (2, 4) for name in with_bn)


def test_the_one_file_works_alone(tmp_path):
    shutil.copy(Path(dessilbi.__file__), tmp_path / "dessilbi.py")
    code = """
import sys, torch
sys.modules["helpers"] = None  # as where it is not installed
from dessilbi import DessiLBI, param_groups
try:
    DessiLBI([torch.nn.Parameter(torch.ones(2))], lr=0.1, fused=True)
except RuntimeError as error:
    print(error)
model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(2, 2))
optimizer = DessiLBI(param_groups(model), lr=0.1, mu=20)
model(torch.ones(1, 1, 3, 3)).sum().backward()
optimizer.step()
print(tuple(optimizer.gamma(model[0].weight).shape), [name for name in sys.modules if name.startswith("helpers.")])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    missing = "fused=True needs the folder helpers/fast of this repository beside it"
    assert done.stdout.splitlines() == [missing, "(2, 1, 3, 3) []"], done.stderr
