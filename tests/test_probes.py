"""Probes against answers worked out by hand, and that nothing shows afterwards that a probe was there."""

import contextlib
import copy
import io
import math
import typing

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers import experiments, probes, pruning, training
from helpers.experiments import Cyclic, replace
from helpers.fast import Engine
from helpers.training import fit
from tests.test_pruning import fixed, small
from tests.test_training import BFLOAT16, FLOAT32, MYNET, begin, scores

STEPS = 10  # of the run MYNET: dropout, batch norm, crops and flips
HESSIANS = {
    "diagonal": torch.diag(torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)),
    "full": torch.tensor([[4.0, 1.0, 0.5], [1.0, 3.0, -1.0], [0.5, -1.0, 2.0]], dtype=torch.float64),
    "indefinite": torch.tensor([[1.0, 2.0, 0.0], [2.0, -3.0, 1.0], [0.0, 1.0, 0.1]], dtype=torch.float64),
}


class Quadratic(nn.Module):
    """½ wᵀHw, in float64."""

    def __init__(self, hessian=HESSIANS["diagonal"], w=(1.0, -2.0, 0.5)):
        super().__init__()
        self.hessian = hessian
        self.w = nn.Parameter(torch.tensor(w, dtype=torch.float64))

    def forward(self):
        return self.w @ self.hessian @ self.w / 2


def value(model) -> torch.Tensor:
    return model()


# ------------------------------------------------------------------------------------------ what is measured


@pytest.mark.parametrize("name", HESSIANS)
@pytest.mark.parametrize("fraction", [0.01, 0.25, 1.0, 3.0])
@pytest.mark.parametrize("lr", [1e-4, 0.1])
def test_beta_of_a_quadratic_is_the_norm_of_hg_over_that_of_g_for_every_fraction(name, fraction, lr):
    model = Quadratic(HESSIANS[name])
    g = HESSIANS[name] @ model.w.detach()
    expected = ((HESSIANS[name] @ g).norm() / g.norm()).item()
    assert probes.effective_smoothness(model, value, lr, (fraction,)) == pytest.approx(expected, rel=1e-6)


def test_beta_of_a_diagonal_quadratic_by_hand():
    # w = (1, 1), H = diag(3, 4): g = (3, 4), Hg = (9, 16), so √(81 + 256)/5.
    model = Quadratic(torch.diag(torch.tensor([3.0, 4.0], dtype=torch.float64)), (1.0, 1.0))
    assert probes.effective_smoothness(model, value, 0.1) == pytest.approx(math.sqrt(337) / 5, rel=1e-9)


class Power(nn.Module):
    """w⁴/4 in one number, whose gradient is w³."""

    def __init__(self, w: float):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([w], dtype=torch.float64))

    def forward(self):
        return self.w.pow(4).sum() / 4


def test_beta_goes_downhill_and_is_the_largest_over_the_fractions():
    # From w = 1, g = 1: at 1 − d the gradient is (1 − d)³, so β is 3 − 3d + d²; uphill it would be 3 + 3d + d².
    for lr, fractions, expected in [(0.4, (0.25, 0.5, 1.0), 2.71), (0.4, (1.0,), 1.96), (0.4, (1.0, 0.5), 2.44)]:
        assert probes.effective_smoothness(Power(1.0), value, lr, fractions) == pytest.approx(expected, rel=1e-9)


def test_the_change_of_a_gradient_is_over_all_its_parts():
    before, after = [torch.tensor([1.0, 2.0]), torch.tensor([[0.0]])], [torch.tensor([4.0, 2.0]), torch.tensor([[4.0]])]
    assert probes.gradient_change(before, after) == 5
    with pytest.raises(ValueError):
        probes.gradient_change(before, after[:1])


def test_a_norm_over_millions_of_numbers_keeps_its_digits():
    many = torch.full((5_000_000,), 0.1)
    assert probes.gradient_change([torch.zeros(5_000_000)], [many]) == pytest.approx(0.1 * math.sqrt(5e6), rel=1e-7)


def test_along_the_gradient_of_a_quadratic_all_three_are_known():
    model, hessian = Quadratic(), HESSIANS["diagonal"].numpy()
    w = model.w.detach().numpy().copy()
    g = hessian @ w
    found = probes.along_gradient(model, value, (0.05, 0.1, 0.4))
    for i, d in enumerate((0.05, 0.1, 0.4)):
        there = w - d * g
        assert found["loss"][i] == pytest.approx(there @ hessian @ there / 2, rel=1e-9)
        assert found["change"][i] == pytest.approx(np.linalg.norm(hessian @ there - g), rel=1e-9)
        assert found["smoothness"][i] == pytest.approx(np.linalg.norm(hessian @ g) / np.linalg.norm(g), rel=1e-9)


def test_a_parameter_that_the_loss_does_not_use_or_that_is_fixed_changes_nothing():
    model = Quadratic()
    expected = probes.effective_smoothness(model, value, 0.1)
    model.unused = nn.Parameter(torch.ones(3, dtype=torch.float64))
    model.fixed = nn.Parameter(torch.ones(3, dtype=torch.float16), requires_grad=False)
    assert probes.effective_smoothness(model, value, 0.1) == expected


def test_where_the_gradient_is_zero_beta_is_zero():
    assert probes.effective_smoothness(Quadratic(w=(0.0, 0.0, 0.0)), value, 0.1) == 0


@pytest.mark.parametrize("w", [math.nan, math.inf])
def test_what_is_not_finite_passes_through(w):
    found = probes.along_gradient(Quadratic(w=(w, 0.0, 0.0)), value, (0.1,))
    assert not np.isfinite([number for numbers in found.values() for number in numbers]).any()
    assert not math.isfinite(probes.effective_smoothness(Quadratic(w=(w, 0.0, 0.0)), value, 0.1))
    assert not math.isfinite(probes.gradient_change([torch.zeros(1)], [torch.tensor([w])]))


def test_a_nan_at_one_fraction_is_not_hidden_by_the_others():
    # √w is not a number below 0, which only the whole step reaches.
    model = Quadratic(w=(1.0, 1.0, 1.0))
    for fractions in ((0.1, 1.0), (1.0, 0.1)):
        assert math.isnan(probes.effective_smoothness(model, lambda m: m.w.sqrt().sum(), 4.0, fractions))


@pytest.mark.parametrize("lr, fractions", [(0.0, (1.0,)), (-1.0, (1.0,)), (math.nan, (1.0,)), (0.1, ()), (0.1, (0.0,))])
def test_a_distance_that_is_none_is_refused(lr, fractions):
    with pytest.raises(ValueError, match="distances.*not allowed" if lr > 0 else f"lr {lr} is not allowed"):
        probes.effective_smoothness(Quadratic(), value, lr, fractions)


CALLS = {
    "effective_smoothness": lambda model, loss: probes.effective_smoothness(model, loss, 0.1),
    "along_gradient": lambda model, loss: probes.along_gradient(model, loss, [0.1]),
    "filter_direction": lambda model, loss: probes.filter_direction(model, torch.Generator()),
    "loss_surface": lambda model, loss: probes.loss_surface(model, loss, [0.0, 1.0], [0.0]),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "model, reason",
    [
        (nn.ReLU(), "a ReLU without parameters that are learned has no gradient"),
        (nn.BatchNorm1d(3, affine=False), "a BatchNorm1d without parameters that are learned"),
        (nn.Linear(3, 2).requires_grad_(False), "a Linear without parameters that are learned"),
        (nn.LazyLinear(2), "lazy layers has no weights yet: call it on a batch first"),
        (nn.Sequential(nn.Linear(3, 2), nn.LazyBatchNorm1d()), "lazy layers has no weights yet"),
        (nn.Linear(3, 2, dtype=torch.complex64), "complex64 are not allowed: give the model in float32 or float64"),
    ],
    ids=str,
)
def test_a_model_that_cannot_be_measured_is_refused_in_words(call, model, reason):
    with pytest.raises(ValueError, match=reason):
        CALLS[call](model, lambda network: network(torch.ones(2, 3)).abs().sum())


@pytest.mark.parametrize(
    "loss",
    [
        lambda model: model(torch.ones(2, 3)),  # four numbers
        lambda model: torch.tensor(1.0),
        lambda model: model(torch.ones(2, 3)).sum().detach(),
    ],
)
def test_a_loss_that_has_no_gradient_is_refused_in_words(loss):
    with pytest.raises(ValueError, match="the loss must be one number, computed with gradients"):
        probes.effective_smoothness(nn.Linear(3, 2), loss, 0.1)


def test_a_model_in_half_precision_is_refused():
    with pytest.raises(ValueError, match="bfloat16.*float32 or float64"):
        probes.effective_smoothness(nn.Linear(2, 2).bfloat16(), lambda model: model.weight.sum(), 0.1)


# ------------------------------------------------------------------------------------------ no trace


def network(dropout: float = 0.5, grads: bool = True) -> nn.Module:
    """A small network with batch norm and dropout whose statistics and gradients are those of a step done before."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(dropout), nn.Flatten(),
                          nn.Linear(12, 2))  # fmt: skip
    if grads:
        square(model).backward()
        model[5].bias.grad = None
    return model


def square(model) -> torch.Tensor:
    images = torch.arange(80.0).reshape(5, 1, 4, 4) % 7
    return model(images).float().square().mean()


def snapshot(model) -> dict:
    """All that a probe could change: bits, tensor objects, gradients, modes, random state."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        "bits": {name: (id(tensor), tensor.detach().numpy().tobytes()) for name, tensor in tensors.items()},
        "grads": {name: (id(tensor.grad), None if tensor.grad is None else tensor.grad.numpy().tobytes())
                  for name, tensor in model.named_parameters()},
        "modes": [module.training for module in model.modules()],
        "random": torch.get_rng_state().numpy().tobytes(),
        "grad mode": torch.is_grad_enabled(),
    }  # fmt: skip


PROBED = {
    "smoothness": lambda model, loss: probes.effective_smoothness(model, loss, 0.1),
    "along": lambda model, loss: probes.along_gradient(model, loss, (0.1, 1.0)),
    "surface": lambda model, loss: probes.loss_surface(model, loss, (-1.0, 1.0), (0.5,)),
}


@pytest.mark.parametrize("probe", PROBED)
@settings(max_examples=15, deadline=None)
@given(dropout=st.sampled_from([0.0, 0.5]), grads=st.booleans(), training=st.booleans(), mixed=st.booleans(),
       enabled=st.booleans())  # fmt: skip
def test_a_measurement_leaves_everything_as_it_was(probe, dropout, grads, training, mixed, enabled):
    model = network(dropout, grads).train(training)
    if mixed:
        model[1].train(not training)
    with torch.set_grad_enabled(enabled):
        before = snapshot(model)
        PROBED[probe](model, square)
        assert snapshot(model) == before


@pytest.mark.parametrize("probe", PROBED)
@pytest.mark.parametrize("call", [1, 2])
def test_a_loss_that_raises_leaves_everything_as_it_was(probe, call):
    model, calls = network(), []

    def loss(model):
        calls.append(0)
        result = square(model.eval().train())
        if len(calls) == call:
            model.eval()
            raise RuntimeError("no loss")
        return result

    before = snapshot(model)
    with pytest.raises(RuntimeError, match="no loss"):
        PROBED[probe](model, loss)
    assert snapshot(model) == before and len(calls) == call


def test_a_buffer_that_is_replaced_comes_back():
    class Counting(Quadratic):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(1))

        def forward(self):
            self.count = self.count + 1
            return super().forward()

    model = Counting()
    before = snapshot(model)
    probes.effective_smoothness(model, value, 0.1)
    assert snapshot(model) == before


def test_each_evaluation_draws_the_same_dropout_mask():
    # With one mask the loss is quadratic: β is the same at every distance; with several it is noise over distance.
    torch.manual_seed(0)
    model, images = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 4, bias=False)).double(), torch.randn(6, 8).double()
    found = probes.along_gradient(model, lambda model: model(images).square().mean(), (1e-3, 1e-2, 1e-1))
    assert found["smoothness"] == pytest.approx([found["smoothness"][0]] * 3, rel=1e-6)


def test_autocast_around_does_not_reach_the_measurement():
    model = network(dropout=0.0)
    expected = probes.along_gradient(model, square, (0.1,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert probes.along_gradient(model, square, (0.1,)) == expected
        assert torch.is_autocast_enabled("cpu")


# ------------------------------------------------------------------------------------------ in the training loop


def every(steps: int, probe: probes.StepProbe) -> probes.StepProbe:
    """The probe, which measures at every so many steps."""
    probe.every = steps
    return probe


def all_probes(steps: int = STEPS) -> list:
    return [probes.GradientChange(steps), every(3, probes.Smoothness(steps)), every(4, probes.AlongGradient(steps))]


@pytest.mark.parametrize("engine", [FLOAT32, BFLOAT16, Engine(memory_format="channels_last")], ids=str)
def test_a_run_with_probes_ends_bit_for_bit_like_one_without(tiny, engine):
    ends, watched = [], all_probes()
    for given_probes in ((), watched):
        trainer, batches = begin(MYNET, tiny, engine)
        fit(trainer, batches, scores, probes=given_probes)
        ends.append((training.weights_sum(trainer.model), trainer.losses.tolist(), torch.get_rng_state().tolist()))
    assert ends[0] == ends[1]
    assert all(torch.isfinite(values).any() for probe in watched for values in probe.series.values())


def literal_gradients(trainer, batches, steps: int) -> list[list[torch.Tensor]]:
    """The gradient of each of the first steps, taken from the loop itself."""
    found = []

    def note(trainer, *_):
        found.append([parameter.grad.clone() for parameter in trainer.model.parameters()])

    fit(trainer, batches, scores, probes=[note])
    return found[:steps]


def test_the_gradient_change_is_that_of_the_loops_own_gradients(tiny):
    gradients = literal_gradients(*begin(MYNET, tiny), STEPS)
    watched = probes.GradientChange(STEPS)
    fit(*begin(MYNET, tiny), scores, probes=[watched])
    series = watched.series["gradient_change"]
    assert series.dtype == torch.float32 and series.shape == (STEPS,) and math.isnan(series[0])
    expected = [torch.cat([(b - a).flatten() for a, b in zip(*pair)]).double().norm().item()
                for pair in zip(gradients, gradients[1:])]  # fmt: skip
    assert series[1:].tolist() == pytest.approx(expected, rel=1e-6)


def test_a_gradient_written_in_place_after_the_probe_is_still_the_one_before(tiny):
    watched, changed = (probes.GradientChange(STEPS) for _ in range(2))
    images, labels = torch.rand(4, 3, 32, 32), torch.arange(4)
    for probe, others in (
        (watched, []),
        (changed, [lambda trainer, *_: [p.grad.zero_() for p in trainer.model.parameters()]]),
    ):
        trainer, _ = begin(replace(MYNET, lr=1e-12), tiny)
        for step in range(2):
            torch.manual_seed(step)
            trainer.step = step
            trainer.step_on(images, labels, [probe, *others])
    first, second = (probe.series["gradient_change"][1].item() for probe in (changed, watched))
    assert first == pytest.approx(second, rel=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_smoothness_is_that_of_the_steps_own_batch_and_rate(tiny, dropout):
    run = training_run(dropout)
    expected = {}

    def measure(trainer, images, labels, loss):
        lr = run.rate(trainer.step / STEPS)
        expected[trainer.step] = probes.effective_smoothness(
            trainer.model, lambda model: nn.functional.nll_loss(model(images), labels), lr
        )

    watched = every(4, probes.Smoothness(STEPS))
    fit(*begin(run, tiny), scores, probes=[measure, watched])
    series = watched.series["smoothness"]
    assert [step for step in range(STEPS) if math.isfinite(series[step])] == [0, 4, 8]
    assert series[[0, 4, 8]].tolist() == pytest.approx([expected[step] for step in (0, 4, 8)], rel=1e-6)


def training_run(dropout: float):
    return replace(MYNET, dropout=dropout, schedule=Cyclic(high=0.2, up=0.5, down=0.5))


def test_the_along_holds_the_ranges_from_half_to_four_times_the_step(tiny):
    run, expected = training_run(0.0), {}

    def measure(trainer, images, labels, loss):
        lr = run.rate(trainer.step / STEPS)
        found = probes.along_gradient(
            trainer.model, lambda model: nn.functional.nll_loss(model(images), labels), [m * lr for m in (0.5, 1, 2, 4)]
        )
        expected[trainer.step] = [min(found["loss"]), max(found["loss"]), min(found["change"]), max(found["change"]),
                                  max(found["smoothness"])]  # fmt: skip

    watched = every(5, probes.AlongGradient(STEPS))
    fit(*begin(run, tiny), scores, probes=[measure, watched])
    for step in (0, 5):
        assert [values[step].item() for values in watched.series.values()] == pytest.approx(expected[step], rel=1e-6)
    assert list(watched.series) == [f"along_{name}" for name in
                                    ("loss_min", "loss_max", "change_min", "change_max", "smoothness")]  # fmt: skip


def test_in_bfloat16_what_is_measured_is_float32(tiny):
    run = training_run(0.0)
    float32, bfloat16 = [], []
    for engine, found in ((FLOAT32, float32), (BFLOAT16, bfloat16)):
        watched = [probes.GradientChange(2)]
        trainer, batches = begin(run, tiny, engine)
        for group in trainer.optimizer.param_groups:
            group["lr"] = 1e-12  # the weights stay, so that both engines are measured at the same ones
        for step in range(2):
            trainer.step = step
            images, labels = batches(step)
            trainer.step_on(trainer.engine.place(images), labels, watched)
        found += [watched[0].series["gradient_change"][1].item()]
    assert bfloat16 == pytest.approx(float32, rel=1e-4)


@pytest.mark.parametrize("stop_at", [1, 4, 5, 8])
def test_a_run_resumed_has_the_same_series_bit_for_bit(tiny, stop_at):
    whole = all_probes()
    fit(*begin(MYNET, tiny), scores, probes=whole)
    first, buffer = all_probes(), io.BytesIO()
    trainer, batches = begin(MYNET, tiny)
    with contextlib.suppress(training.Stopped):
        fit(trainer, batches, scores, probes=first, stop=lambda: trainer.step == stop_at)
    torch.save([trainer.state_dict(), *(probe.state_dict() for probe in first)], buffer)
    buffer.seek(0)
    state, *states = torch.load(buffer, weights_only=True)
    trainer, batches = begin(MYNET, tiny)
    trainer.load_state_dict(state)
    second = all_probes()
    for probe, each in zip(second, states):
        probe.load_state_dict(each)
    fit(trainer, batches, scores, probes=second)
    for one, other in zip(whole, second):
        for name, values in one.series.items():
            assert values.numpy().tobytes() == other.series[name].numpy().tobytes(), name


def test_a_state_of_another_run_is_refused():
    with pytest.raises(ValueError, match="10 steps|'smoothness': 10"):
        probes.Smoothness(STEPS + 1).load_state_dict(probes.Smoothness(STEPS).state_dict())
    with pytest.raises(ValueError, match="along_loss_min"):
        probes.Smoothness(STEPS).load_state_dict(probes.AlongGradient(STEPS).state_dict())


def test_a_state_saved_does_not_change_with_the_run(tiny):
    watched, states = all_probes(), []
    fit(*begin(MYNET, tiny), scores, probes=watched,
        save=lambda trainer: states.append([probe.state_dict()["series"] for probe in watched]))  # fmt: skip
    assert all(math.isnan(values[STEPS - 1]) for series in states[0] for values in series.values())


def test_each_probe_that_a_run_can_name_is_here():
    named = set(typing.get_args(experiments.run.Probe))
    assert {*probes.PROBES, "path"} == named  # which asks for the steps of an epoch as well


# ------------------------------------------------------------------------------------------ the path of Γ


def test_path_notes_norms_and_the_first_entry():
    model = small()
    weight, name = model.features[0].weight, "features.0.weight"
    optimizer, path = fixed(model, {name: torch.zeros(4, 1, 3, 3)}), probes.Path(run_steps=8, epoch_steps=2, points=4)
    z = optimizer.state[weight]["z"]
    for step in range(9):
        if step == 3:
            z[1] = 1.0  # norm 3: Γ has norm 2
        if step == 5:
            z[1], z[3] = 0.0, 2.0  # leaves again; another enters
        path.look(optimizer, step)
    assert path.series["path_step"].tolist() == [0, 2, 4, 6, 8]
    expected = torch.zeros(5, 4)
    expected[2, 1], expected[3:, 3] = 2.0, 5.0
    torch.testing.assert_close(path.series[f"path_{name}"], expected)
    # Epochs end after steps 2, 4, 6 and 8.
    assert path.series[f"entry_{name}"].tolist() == [pruning.NEVER, 2, pruning.NEVER, 3]


def test_path_of_linear_weights_is_their_share_in_the_support():
    model, name = small(), "classifier.3.weight"
    z = torch.zeros(3, 5)
    z[0] = 2.0
    path = probes.Path(run_steps=1, epoch_steps=1)
    path.look(fixed(model, {name: z}), 1)
    assert path.series[f"path_{name}"].tolist() == [0.0, pytest.approx(1 / 3)]
    assert (path.series[f"entry_{name}"] == 1).sum() == 5


def test_a_resumed_path_is_the_same():
    model, name = small(), "features.0.weight"
    optimizer = fixed(model, {name: torch.full((4, 1, 3, 3), 2.0)})
    whole, first, second = (probes.Path(6, 2, points=3) for _ in range(3))
    for step in range(7):
        whole.look(optimizer, step)
        (first if step < 3 else second).look(optimizer, step)
        if step == 2:
            second.load_state_dict(copy.deepcopy(first.state_dict()))
    for key, values in whole.series.items():
        assert torch.equal(values, second.series[key])


# ------------------------------------------------------------------------------------------ the surface


def directions(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [probes.filter_direction(model, generator) for _ in range(2)]


def test_each_filter_of_a_direction_is_as_long_as_the_weights():
    model = network()
    model[0].weight.data[1] = 0
    for direction in directions(model):
        for (name, weight), along in zip(model.named_parameters(), direction, strict=True):
            if weight.ndim > 1:
                assert along.flatten(1).norm(dim=1).tolist() == pytest.approx(weight.flatten(1).norm(dim=1).tolist())
            else:
                assert along.eq(0).all(), name


def test_directions_are_the_seeds_and_differ_from_each_other():
    model = network()
    (a, b), (again, _), (other, _) = directions(model), directions(model), directions(model, seed=1)
    assert torch.equal(a[0], again[0])
    assert not torch.equal(a[0], b[0]) and not torch.equal(a[0], other[0])
    one, two = (probes.loss_surface(model, square, (1.0,), (0.0,), seed=seed) for seed in (0, 1))
    assert one != two


def test_the_surface_of_a_quadratic_is_known():
    # ½‖W‖² at W + x·A + y·B
    model = nn.Linear(3, 2, bias=False).double()
    (a,), (b,) = directions(model)
    xs, ys = (-1.0, 0.0, 0.5), (0.0, 2.0)
    surface = probes.loss_surface(model, lambda model: model.weight.square().sum() / 2, xs, ys)
    w = model.weight.detach()
    expected = [[((w + x * a + y * b).square().sum() / 2).item() for x in xs] for y in ys]
    assert surface.shape == (2, 3)
    np.testing.assert_allclose(surface, expected, rtol=1e-12)


def test_the_surface_is_that_of_evaluation_mode():
    model = network().train()
    at_weights = probes.loss_surface(model, square, (0.0,), (0.0,))[0, 0]
    with torch.no_grad():
        assert at_weights == square(model.eval()).item()


def test_a_surface_may_reach_where_the_loss_is_not_finite():
    model = nn.Linear(3, 2, bias=False)
    surface = probes.loss_surface(model, lambda model: model.weight.sum() * math.inf, (0.0, 1.0), (0.0,))
    assert not np.isfinite(surface).any()


def surface_after(tiny, stop_at=None):
    """The probe of a whole run of 10 steps and its trainer, gone through a checkpoint at `stop_at`."""
    probe, (trainer, batches) = probes.Surface(STEPS), begin(MYNET, tiny)
    if stop_at:
        with contextlib.suppress(training.Stopped):
            fit(trainer, batches, scores, probes=[probe], stop=lambda: trainer.step == stop_at)
        buffer = io.BytesIO()
        torch.save([trainer.state_dict(), probe.state_dict()], buffer)
        buffer.seek(0)
        states = torch.load(buffer, weights_only=True)
        probe, (trainer, batches) = probes.Surface(STEPS), begin(MYNET, tiny)
        trainer.load_state_dict(states[0])
        probe.load_state_dict(states[1])
    return probe, fit(trainer, batches, scores, probes=[probe])


@pytest.mark.parametrize("stop_at", [None, 3])
def test_a_runs_surface_is_that_of_its_last_weights_on_its_first_images(tiny, stop_at):
    probe, trainer = surface_after(tiny, stop_at)
    before = training.weights_sum(trainer.model)
    assert probe.series == {}
    probe.finish(trainer)
    images, labels = training.make_batches(MYNET, tiny)(0)
    middle = nn.functional.nll_loss(trainer.model.eval()(images), labels)
    assert probe.series["surface_at"].tolist() == [-1, -0.5, 0, 0.5, 1]
    assert probe.series["surface_loss"].shape == (5, 5)
    assert probe.series["surface_loss"][2, 2].item() == pytest.approx(middle.item(), rel=1e-5)
    assert training.weights_sum(trainer.model) == before


def test_a_run_that_diverged_has_no_surface(tiny):
    probe, trainer = surface_after(tiny)
    trainer.diverged_at = 9
    probe.finish(trainer)
    assert probe.series == {}


def test_a_long_run_has_a_finer_surface_on_more_images():
    probe = probes.Surface(1000)
    for batch in range(6):
        probe(None, torch.full((2, 1), float(batch)), torch.zeros(2), None)
    assert probe.points == 15 and [int(images[0]) for images, _ in probe.kept] == [0, 1, 2, 3]


# ------------------------------------------------------------------------------------------ silent units


def test_silent_channels_and_units_are_counted():
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, -1.0, 1.0, 0.0]).reshape(4, 1, 1, 1))
        model[0].bias.copy_(torch.tensor([0.0, 0.0, -5.0, 1.0]))  # heard, never, only where a pixel is above 5, always
        model[3].weight.fill_(1.0)
        model[3].bias.copy_(torch.tensor([0.0, -1e6]))
    images = torch.ones(600, 1, 2, 2)
    assert probes.silent(model, images) == {"1": 0.5, "4": 0.5}
    images[599, 0, 1, 1] = 6.0  # one pixel of one image, in the last batch, is enough
    assert probes.silent(model, images) == {"1": 0.25, "4": 0.5}


def test_looking_for_silent_units_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.ReLU(), nn.Dropout(0.5)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert set(probes.silent(model, torch.randn(8, 1, 3, 3))) == {"2"}
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.training and model[1].training and not model[2]._forward_hooks


def test_silent_units_need_no_parameters():
    images = torch.tensor([[1.0, -1.0]])
    assert probes.silent(nn.ReLU(), images) == {"": 0.5}
    assert probes.silent(nn.Linear(2, 2).requires_grad_(False), images) == {}


def test_a_network_without_relus_has_none_that_are_silent():
    assert probes.silent(nn.Sequential(nn.Linear(2, 2), nn.Tanh()), torch.ones(1, 2)) == {}
