"""Tests of training: the update rules against their equations, the schedules step by step, the loop, and that a run
stopped anywhere ends bit for bit like one never stopped."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from torch import nn

from helpers import data, experiments, models, training
from helpers.experiments import Cyclic, Run, Steps, replace
from helpers.fast import Engine
from helpers.training import Trainer, fit
from tests.test_dessilbi import needs_compiler

STEPS = 5  # an epoch: 70 images in batches of 16, or 18 in batches of 4
LENET = Run(data="mnist", model="LeNet", lr=0.05, momentum=0.9, epochs=3, batch_size=16)
MYNET = Run(model="MyNet", options={"kernels": (1, 1), "hidden": 8, "dropout": 0.5}, loss="nll", lr=0.05, momentum=0.5,
            epochs=2, batch_size=4, images=18, augment=("crop", "flip"))  # fmt: skip
FLOAT32 = Engine()
BFLOAT16 = Engine(precision="bfloat16", memory_format="channels_last")
FUSED = dataclasses.replace(BFLOAT16, fused=True)
WINOGRAD = Engine(memory_format="channels_last", convolutions="winograd", fused=True)
WINOGRAD16 = dataclasses.replace(WINOGRAD, precision="bfloat16")


def scores(model) -> tuple[float, float]:
    return 0.5, 0.25


def begin(run, dataset, engine=FLOAT32, batches=None) -> tuple[Trainer, data.Batches]:
    batches = batches or training.make_batches(run, dataset, engine.device)
    return Trainer(run, engine, len(batches)), batches


def train(run, dataset, engine=FLOAT32, validate=scores, batches=None, **given) -> Trainer:
    return fit(*begin(run, dataset, engine, batches), validate, **given)


def cross_entropy(model, images, labels, reduction="mean") -> torch.Tensor:
    return nn.functional.cross_entropy(model(images), labels, reduction=reduction)


# ------------------------------------------------------------------------------------------ optimizers


class Quadratic(nn.Module):
    """½ Σ c (w − t)², whose gradient is c (w − t), in float64."""

    c, t = np.array([1.0, 10.0, 0.1, 3.0]), np.array([2.0, -1.0, 0.5, 0.0])

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, 1.0, -1.0, 0.25], dtype=torch.float64))

    def forward(self):
        return (torch.from_numpy(self.c) * (self.w - torch.from_numpy(self.t)) ** 2).sum() / 2


def sgd(run):
    """v ← μ v + g, w ← w − α v."""
    v = 0.0

    def update(w, g, lr, step):
        nonlocal v
        v = run.momentum * v + g
        return w - lr * v

    return update


def nesterov(run):
    """v ← μ v + g, w ← w − α (g + μ v): torch's form of it (Sutskever et al., 2013)."""
    v = 0.0

    def update(w, g, lr, step):
        nonlocal v
        v = run.momentum * v + g
        return w - lr * (g + run.momentum * v)

    return update


def adam(run):
    """Kingma and Ba, 2015, algorithm 1."""
    m = v = 0.0

    def update(w, g, lr, step):
        nonlocal m, v
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        unbiased, spread = m / (1 - 0.9**step), v / (1 - 0.999**step)
        return w - lr * unbiased / (spread**0.5 + 1e-8)

    return update


def rmsprop(run):
    """s ← 0.99 s + 0.01 g², w ← w − α g/√s (Hinton's lectures, 6e)."""
    s = 0.0

    def update(w, g, lr, step):
        nonlocal s
        s = 0.99 * s + 0.01 * g**2
        return w - lr * g / (s**0.5 + 1e-8)

    return update


@pytest.mark.parametrize("weight_decay", [0, 0.03])
@pytest.mark.parametrize("rule, changes", [
    *((sgd, {"momentum": momentum}) for momentum in (0, 0.5, 0.9)), (nesterov, {"momentum": 0.9, "nesterov": True}),
    (adam, {"optimizer": "adam", "momentum": 0}), (rmsprop, {"optimizer": "rmsprop", "momentum": 0}),
])  # fmt: skip
def test_an_optimizer_is_the_loop_of_its_equations(rule, changes, weight_decay):
    run = replace(LENET, lr=0.02, weight_decay=weight_decay, **changes)
    model = Quadratic()
    optimizer, update, w = training.make_optimizer(run, model), rule(run), model.w.detach().numpy().copy()
    for step in range(1, 31):
        lr = run.lr * (1 + step % 3)  # the rate changes under way, as under a schedule
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        model().backward()
        optimizer.step()
        w = update(w, model.c * (w - model.t) + weight_decay * w, lr, step)
        np.testing.assert_allclose(model.w.detach().numpy(), w, rtol=1e-12, atol=1e-14, err_msg=f"step {step}")


def test_an_optimizer_learns_every_parameter():
    model = models.LeNet()
    for name in ("sgd", "adam", "rmsprop"):
        optimizer = training.make_optimizer(replace(LENET, optimizer=name, momentum=0), model)
        learned = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        assert [each.data_ptr() for each in learned] == [each.data_ptr() for each in model.parameters()]


# ------------------------------------------------------------------------------------------ schedules


def test_a_constant_rate_is_the_runs():
    assert {LENET.rate(done) for done in np.linspace(0, 1, 101)} == {0.05}


def test_the_cyclic_rate_is_torchs_at_every_step_of_the_papers_run():
    run, total = experiments.cyclic, 31_250  # 50 epochs of 40,000/64 = 625 steps
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    reference = torch.optim.lr_scheduler.CyclicLR(optimizer, 0.01, 0.04, step_size_up=2_000, cycle_momentum=False)
    optimizer.step()
    ours, theirs = np.empty(total), np.empty(total)
    for step in range(total):
        ours[step], theirs[step] = run.rate(step / total), reference.get_last_lr()[0]
        reference.step()
    assert np.abs(ours - theirs).max() < 1e-9
    assert (ours.min(), ours.max()) == pytest.approx((0.01, 0.04))


def test_a_cyclic_rate_by_hand():
    # Up from 1 to 5 in a tenth of the run, down in three tenths, and again.
    run = replace(LENET, lr=1, schedule=Cyclic(high=5, up=0.1, down=0.3))
    expected = {0: 1, 0.05: 3, 0.1: 5, 0.25: 3, 0.4: 1, 0.45: 3, 0.5: 5, 0.65: 3, 0.9: 5}
    assert {done: run.rate(done) for done in expected} == pytest.approx(expected)


@pytest.mark.parametrize("epochs, drop", [(50, 20), (10, 4)])
@pytest.mark.parametrize("steps", [625, 4, 7])
def test_the_stepped_rate_drops_exactly_where_the_epoch_begins(epochs, drop, steps):
    run, total = experiments.SECTION_1_9["learning rate"]["0.04, then 0.01"], epochs * steps
    rates = [run.rate(step / total) for step in range(total)]
    assert rates == [0.04] * (drop * steps) + [0.01] * (total - drop * steps)


def test_a_stepped_rate_falls_at_each_of_its_positions():
    run = replace(LENET, lr=8, schedule=Steps(at=(0.25, 0.5), factor=0.5))
    assert [run.rate(done) for done in (0, 0.24, 0.25, 0.49, 0.5, 1)] == [8, 8, 4, 4, 2, 2]


def test_the_optimizer_gets_the_rate_of_its_step(tiny_digits):
    run = replace(LENET, schedule=Cyclic(high=0.2, up=0.2, down=0.2))
    rates = []
    train(run, tiny_digits, probes=[lambda trainer, *_: rates.append(trainer.optimizer.param_groups[0]["lr"])])
    # 15 steps, 3 up and 3 down
    assert rates == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.15, 0.1] * 2 + [0.05, 0.1, 0.15])


def test_the_optimizer_gets_the_momentum_of_its_step(tiny_digits):
    run = replace(LENET, momentum=0.9, schedule=Cyclic(high=0.2, up=0.2, down=0.2, low_momentum=0.6))
    found = []
    train(run, tiny_digits, probes=[lambda trainer, *_: found.append(trainer.optimizer.param_groups[0]["momentum"])])
    assert found == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.7, 0.8] * 2 + [0.9, 0.8, 0.7])


# ------------------------------------------------------------------------------------------ losses


def test_nll_of_log_probabilities_is_cross_entropy_of_logits():
    logits, labels = 5 * torch.randn(64, 10, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 10
    nll, ce = training.LOSSES["nll"](logits.log_softmax(1), labels), training.LOSSES["cross_entropy"](logits, labels)
    assert nll.item() == pytest.approx(ce.item(), abs=1e-6)
    # The softmax of log-probabilities is that of the logits, so MyNet may be trained by either.
    assert training.LOSSES["cross_entropy"](logits.log_softmax(1), labels).item() == pytest.approx(ce.item(), abs=1e-6)


def test_mynet_learns_the_same_by_nll_and_by_cross_entropy(tiny):
    nll, ce = (train(replace(MYNET, loss=loss), tiny) for loss in ("nll", "cross_entropy"))
    torch.testing.assert_close(nll.losses, ce.losses, rtol=1e-4, atol=1e-5)


def test_score_by_hand():
    # Both images get probabilities ¾ and ¼; the first is right, the second wrong.
    outputs = torch.tensor([[0.75, 0.25], [0.75, 0.25]]).log()
    expected = pytest.approx((-(np.log(0.75) + np.log(0.25)) / 2, 0.5))
    for loss in training.LOSSES:
        assert training.score(outputs, torch.tensor([0, 1]), loss) == expected


def test_labels_are_smoothed_in_training_alone(tiny_digits):
    run, hard = replace(LENET, label_smoothing=0.2), []

    def validate(model):
        hard.append(training.evaluate(model, run, tiny_digits, tiny_digits.test, FLOAT32))
        return hard[-1]

    trainer, batches = begin(run, tiny_digits)
    logits = trainer.model(batches(0)[0]).log_softmax(1)
    # A tenth of the fifth goes to each of the ten classes.
    right = logits.gather(1, batches(0)[1][:, None]).mean()
    fit(trainer, batches, validate)
    assert trainer.losses[0].item() == pytest.approx(-(0.8 * right + 0.2 * logits.mean()).item(), rel=1e-5)
    plain = training.evaluate(trainer.model, LENET, tiny_digits, tiny_digits.test, FLOAT32)
    assert hard[-1] == plain


# ------------------------------------------------------------------------------------------ the loop


def test_training_is_the_literal_loop(tiny_digits):
    run = replace(LENET, weight_decay=0.01, schedule=Steps(at=(0.4,), factor=0.5))
    trainer = train(run, tiny_digits)
    torch.manual_seed(0)
    model, batches = models.LeNet(), training.make_batches(run, tiny_digits)
    parameters = list(model.parameters())
    momenta = [torch.zeros_like(parameter) for parameter in parameters]
    for step in range(15):
        gradients = torch.autograd.grad(cross_entropy(model, *batches(step)), parameters)
        with torch.no_grad():
            for parameter, momentum, gradient in zip(parameters, momenta, gradients, strict=True):
                momentum.mul_(0.9).add_(gradient + 0.01 * parameter)
                parameter.sub_((0.05 if step < 6 else 0.025) * momentum)
    for ours, literal in zip(trainer.model.parameters(), parameters, strict=True):
        torch.testing.assert_close(ours, literal, rtol=1e-4, atol=1e-5)


def test_averaged_weights_and_statistics_are_the_literal_mean(tiny):
    run = replace(MYNET, average=0.8)
    means: list[dict] = []

    def average(trainer):
        now = {name: value.detach().double().clone() for name, value in trainer.model.state_dict().items()}
        means.append(now if not means else {name: 0.8 * means[-1][name] + 0.2 * now[name] for name in now})

    asked = []
    trainer = train(run, tiny, tick=average, validate=lambda model: asked.append(model) or scores(model))
    assert all(model is trainer.result is not trainer.model for model in asked)
    for name, ours in trainer.result.state_dict().items():
        if ours.is_floating_point():  # and not the count of batches
            torch.testing.assert_close(ours.double(), means[-1][name], rtol=1e-5, atol=1e-6)
    plain = train(MYNET, tiny)
    assert training.weights_sum(trainer.model) == training.weights_sum(plain.model)
    assert plain.result is plain.model


def test_a_run_learns(tiny_digits):
    history = train(replace(LENET, optimizer="adam", lr=2e-3, momentum=0, epochs=20), tiny_digits).history
    assert history["train_loss"][-1] < 0.5 * history["train_loss"][0]
    assert history["train_accuracy"][-1] > 0.5


def test_history_is_the_mean_over_the_images_of_each_epoch(tiny_digits):
    seen = {"loss": [], "right": []}

    def each_image(trainer, images, labels, loss):
        with torch.no_grad():
            outputs = trainer.model(images)
            seen["loss"] += nn.functional.cross_entropy(outputs, labels, reduction="none").tolist()
            seen["right"] += (outputs.argmax(1) == labels).tolist()

    history = train(LENET, tiny_digits, probes=[each_image]).history
    assert list(history) == ["train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "seconds"]
    assert history["train_loss"] == pytest.approx(np.reshape(seen["loss"], (3, 70)).mean(1).tolist(), rel=1e-5)
    assert history["train_accuracy"] == pytest.approx(np.reshape(seen["right"], (3, 70)).mean(1).tolist())


def test_step_series_hold_each_steps_mean_loss_and_right_answers(tiny_digits):
    losses, right = [], []

    def note(trainer, images, labels, loss):
        losses.append(loss.item())
        right.append((trainer.model(images).argmax(1) == labels).sum().item())

    trainer = train(LENET, tiny_digits, probes=[note])
    assert trainer.losses.tolist() == losses
    assert trainer.correct.tolist() == right
    assert len(losses) == 15


def test_validation_comes_at_the_end_of_every_epoch(tiny_digits):
    trainer, batches = begin(LENET, tiny_digits)
    asked = []

    def validate(model):
        assert model is trainer.model
        asked.append(trainer.step)
        return 10.0 + len(asked), len(asked) / 10

    fit(trainer, batches, validate)
    assert asked == [5, 10, 15]
    assert trainer.history["validation_loss"] == [11, 12, 13]
    assert trainer.history["validation_accuracy"] == [0.1, 0.2, 0.3]
    assert all(seconds > 0 for seconds in trainer.history["seconds"]) and len(trainer.history["seconds"]) == 3


def test_every_step_is_in_training_mode_whatever_validation_leaves(tiny):
    modes = []
    train(MYNET, tiny, validate=lambda model: (float(model.eval().training), 0.0),
          probes=[lambda trainer, *_: modes.append(trainer.model.training)])  # fmt: skip
    assert modes == [True] * 10


def test_tick_comes_after_every_step_and_save_after_every_epoch(tiny_digits):
    ticks, saves = [], []
    train(LENET, tiny_digits, tick=lambda t: ticks.append(t.step), save=lambda t: saves.append(t.step))
    assert ticks == list(range(1, 16))
    assert saves == [5, 10, 15]


def test_what_is_saved_after_an_epoch_holds_that_epoch(tiny_digits):
    lengths = []
    train(LENET, tiny_digits, save=lambda trainer: lengths.append(len(trainer.state_dict()["history"]["train_loss"])))
    assert lengths == [1, 2, 3]


def test_a_finished_run_is_not_trained_further(tiny_digits):
    trainer, batches = begin(LENET, tiny_digits)
    fit(trainer, batches, scores)
    before = training.weights_sum(trainer.model)
    fit(trainer, batches, scores)
    assert training.weights_sum(trainer.model) == before
    assert len(trainer.history["train_loss"]) == 3


def test_a_run_trained_again_is_the_same_bit_for_bit(tiny):
    one, again = (train(MYNET, tiny) for _ in range(2))
    assert training.weights_sum(one.model) == training.weights_sum(again.model)
    assert torch.equal(one.losses, again.losses)


def test_the_seed_decides_initial_weights_and_batches(tiny):
    (one, some), (two, others) = (begin(replace(MYNET, seed=seed), tiny) for seed in (1, 2))
    assert training.weights_sum(one.model) != training.weights_sum(two.model)
    assert not torch.equal(some(0)[1], others(0)[1])


def test_a_run_starts_from_the_weights_it_is_given():
    given = {name: torch.full_like(value, 0.125) for name, value in models.LeNet().state_dict().items()}
    trainer = Trainer(LENET, FLOAT32, STEPS, given)
    assert all(parameter.eq(0.125).all() for parameter in trainer.model.parameters())


def test_images_and_normalisation_of_a_run_are_those_of_its_batches(tiny):
    cut = training.make_batches(replace(MYNET, images=20), tiny)
    assert (len(cut), len(cut.split), cut.size) == (5, 20, 4)
    images, _ = training.make_batches(replace(MYNET, normalize=False, augment=()), tiny)(0)
    assert images.min() >= 0 and images.max() <= 1
    images, _ = training.make_batches(replace(MYNET, augment=(), batch_size=70, images=None), tiny)(0)
    assert images.mean((0, 2, 3)).abs().max() < 1e-5


# ------------------------------------------------------------------------------------------ probes


def test_a_probe_sees_every_step_between_backward_and_update(tiny_digits):
    trainer, batches = begin(LENET, tiny_digits)
    steps = []

    def probe(given, images, labels, loss):
        assert given is trainer
        steps.append(trainer.step)
        ours, theirs = batches(trainer.step)
        assert torch.equal(images, ours) and torch.equal(labels, theirs)
        again = cross_entropy(trainer.model, images, labels)  # of the weights before the update
        assert again.item() == loss.item()
        parameters = list(trainer.model.parameters())
        for parameter, gradient in zip(parameters, torch.autograd.grad(again, parameters), strict=True):
            assert torch.equal(parameter.grad, gradient)

    fit(trainer, batches, scores, probes=[probe])
    assert steps == list(range(15))


def test_several_probes_are_called_in_their_order(tiny_digits):
    called = []
    train(replace(LENET, epochs=1), tiny_digits, probes=[lambda *_: called.append("a"), lambda *_: called.append("b")])
    assert called == ["a", "b"] * STEPS


def test_a_probe_that_only_looks_changes_nothing(tiny):
    plain, probed = train(MYNET, tiny), train(MYNET, tiny, probes=[lambda *_: None])
    assert training.weights_sum(plain.model) == training.weights_sum(probed.model)
    assert torch.equal(plain.losses, probed.losses)


def test_without_probes_a_step_is_one_forward_and_one_update(tiny_digits):
    trainer, batches = begin(LENET, tiny_digits)
    calls = {"forward": 0, "update": 0}
    trainer.model.register_forward_hook(lambda *_: calls.update(forward=calls["forward"] + 1))
    trainer.optimizer.register_step_post_hook(lambda *_: calls.update(update=calls["update"] + 1))
    fit(trainer, batches, scores)
    assert calls == {"forward": 15, "update": 15}


# ------------------------------------------------------------------------------------------ divergence


class Poisoned(data.Batches):
    """Batches of which one holds no numbers."""

    def __call__(self, step):
        images, labels = super().__call__(step)
        return (images * float("nan") if step == 7 else images), labels


def test_a_run_that_diverges_says_at_which_step(tiny_digits):
    trainer = train(LENET, tiny_digits, batches=Poisoned(tiny_digits.train, 16, 0))
    assert trainer.diverged_at == 7
    assert trainer.losses[:7].isfinite().all() and trainer.losses[7].isnan()
    # It is seen at the end of the second epoch, which is not finished then.
    assert trainer.step == 10
    assert [len(values) for values in trainer.history.values()] == [1] * 5


def test_divergence_is_looked_for_within_long_epochs_too(tiny_digits, monkeypatch):
    monkeypatch.setattr(training, "CHECK_EVERY", 3)
    trainer = train(LENET, tiny_digits, batches=Poisoned(tiny_digits.train, 16, 0))
    assert (trainer.diverged_at, trainer.step) == (7, 9)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf")])
def test_every_loss_that_is_not_finite_is_divergence(tiny_digits, loss):
    trainer, batches = begin(LENET, tiny_digits)
    trainer.criterion = lambda outputs, labels: outputs.sum() * 0 + (loss if trainer.step == 6 else 1.0)
    fit(trainer, batches, scores)
    assert trainer.diverged_at == 6


def test_a_rate_far_too_high_diverges_at_the_first_loss_that_is_not_finite(tiny_digits):
    losses = []
    run = replace(LENET, lr=1e20, momentum=0)
    trainer = train(run, tiny_digits, probes=[lambda trainer, images, labels, loss: losses.append(loss.item())])
    assert trainer.diverged_at == np.flatnonzero(~np.isfinite(losses))[0] > 0


def test_a_diverged_run_stays_so_when_resumed(tiny_digits):
    poisoned = Poisoned(tiny_digits.train, 16, 0)
    state = train(LENET, tiny_digits, batches=poisoned).state_dict()
    resumed, _ = begin(LENET, tiny_digits)
    resumed.load_state_dict(state)
    fit(resumed, poisoned, scores)
    assert (resumed.diverged_at, resumed.step) == (7, 10)


def test_a_run_that_converges_is_not_diverged(tiny_digits):
    assert train(LENET, tiny_digits).diverged_at is None


# ------------------------------------------------------------------------------------------ stop and resume


def through_a_file(state: dict) -> dict:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def stopped(run, dataset, engine, at: int) -> tuple[dict, list[int]]:
    """The state that a run saves when it is stopped after step `at`, and all steps at which it saved."""
    trainer, batches = begin(run, dataset, engine)
    states = []
    with pytest.raises(training.Stopped):
        fit(trainer, batches, scores, save=lambda trainer: states.append(through_a_file(trainer.state_dict())),
            stop=lambda: trainer.step >= at)  # fmt: skip
    return states[-1], [state["step"] for state in states]


@pytest.mark.parametrize("at, saved", [(1, [1]), (5, [5]), (7, [5, 7]), (10, [5, 10]), (14, [5, 10, 14])])
def test_a_run_asked_to_stop_saves_the_step_it_is_at(tiny_digits, at, saved):
    assert stopped(LENET, tiny_digits, FLOAT32, at)[1] == saved


def test_a_run_asked_to_stop_at_its_very_end_is_finished(tiny_digits):
    trainer, batches = begin(LENET, tiny_digits)
    assert fit(trainer, batches, scores, stop=lambda: trainer.step >= 15).step == 15


ENDS_ALIKE = {
    "momentum": replace(LENET, weight_decay=1e-3, epochs=2),
    "cyclic": replace(LENET, schedule=Cyclic(high=0.2), epochs=2),
    "adam": replace(LENET, optimizer="adam", momentum=0, lr=1e-3, epochs=2),
    "rmsprop": replace(LENET, optimizer="rmsprop", momentum=0, lr=1e-3, epochs=2),
    "dropout": MYNET,
    "dropout, adam": replace(MYNET, optimizer="adam", momentum=0, lr=1e-3),
    "3 × 3": replace(MYNET, options={**MYNET.options, "kernels": (3, 3)}),
    "recipe": replace(
        MYNET,
        loss="cross_entropy",
        nesterov=True,
        label_smoothing=0.1,
        average=0.9,
        flipped=True,
        augment=("crop", "flip", "trivial", "cutout"),
    ),
}


@pytest.mark.parametrize("at", [5, 8])
@pytest.mark.parametrize("engine", [
    FLOAT32, BFLOAT16, *(pytest.param(each, marks=needs_compiler) for each in (FUSED, WINOGRAD, WINOGRAD16)),
], ids=["float32", "bfloat16", "fused", "winograd", "winograd, bfloat16"])  # fmt: skip
@pytest.mark.parametrize("name", ENDS_ALIKE)
def test_a_run_stopped_and_resumed_ends_bit_for_bit_like_one_never_stopped(name, engine, at, tiny, tiny_digits):
    run = ENDS_ALIKE[name]
    dataset = tiny if run.data == "cifar10" else tiny_digits
    straight = train(run, dataset, engine)
    state, _ = stopped(run, dataset, engine, at)
    assert Engine(**state["engine"]) == engine
    torch.manual_seed(1234)  # another process has another random state
    resumed, batches = begin(run, dataset, engine)
    resumed.load_state_dict(state)
    fit(resumed, batches, scores)
    assert training.weights_sum(resumed.model) == training.weights_sum(straight.model)
    assert training.weights_sum(resumed.result) == training.weights_sum(straight.result)
    assert torch.equal(resumed.losses, straight.losses)
    assert torch.equal(resumed.correct, straight.correct)
    assert without_seconds(resumed.history) == without_seconds(straight.history)
    for ours, theirs in zip(*(tensors(t.optimizer.state_dict()["state"]) for t in (resumed, straight)), strict=True):
        assert torch.equal(ours, theirs)


def without_seconds(history: dict) -> dict:
    return {name: values for name, values in history.items() if name != "seconds"}


def tensors(state: dict) -> list[torch.Tensor]:
    return [value for of_parameter in state.values() for value in of_parameter.values() if torch.is_tensor(value)]


def test_seconds_of_an_epoch_go_on_where_they_stopped(tiny_digits):
    state, _ = stopped(LENET, tiny_digits, FLOAT32, 7)
    assert 0 < state["seconds"]
    resumed, batches = begin(LENET, tiny_digits)
    resumed.load_state_dict({**state, "seconds": 1000.0})
    fit(resumed, batches, scores)
    seconds = resumed.history["seconds"]
    assert len(seconds) == 3
    assert seconds[1] > 1000 > seconds[2]


# ------------------------------------------------------------------------------------------ fingerprint


@pytest.mark.parametrize("name", ENDS_ALIKE)
def test_the_fingerprint_is_the_first_losses_of_the_float32_run(name, tiny, tiny_digits):
    run = ENDS_ALIKE[name]
    dataset = tiny if run.data == "cifar10" else tiny_digits
    assert training.fingerprint(run, dataset) == train(run, dataset).losses[:5].tolist()


def test_the_fingerprint_does_not_depend_on_what_was_trained_before_or_how(tiny):
    run = replace(MYNET, dropout=0.0)
    before = training.fingerprint(run, tiny)
    lower = train(run, tiny, BFLOAT16).losses[:5].tolist()
    torch.manual_seed(99)
    assert training.fingerprint(run, tiny) == before
    assert lower != before
    assert lower == pytest.approx(before, rel=0.05)


def test_the_fingerprint_leaves_a_trainer_alone(tiny):
    trainer, batches = begin(MYNET, tiny)
    before = training.weights_sum(trainer.model)
    training.fingerprint(MYNET, tiny)
    assert training.weights_sum(trainer.model) == before
    assert trainer.step == 0


def test_the_fingerprint_tells_runs_apart(tiny):
    changes = ({}, {"seed": 1}, {"lr": 0.06}, {"momentum": 0}, {"dropout": 0.0}, {"augment": ()}, {"batch_norm": False})
    prints = {tuple(training.fingerprint(replace(MYNET, **change), tiny)) for change in changes}
    assert len(prints) == len(changes)


def test_the_fingerprint_is_of_the_weights_that_the_run_starts_from(tiny_digits):
    zeros = {name: torch.zeros_like(value) for name, value in models.LeNet().state_dict().items()}
    # Without any weights every class is equally likely.
    assert training.fingerprint(LENET, tiny_digits, zeros)[0] == pytest.approx(np.log(10))


def test_the_fingerprint_of_a_run_of_three_steps_is_three_losses(tiny_digits):
    assert len(training.fingerprint(replace(LENET, images=40, epochs=1), tiny_digits)) == 3
    assert len(training.fingerprint(replace(LENET, images=32, epochs=3), tiny_digits)) == 5  # over three epochs


# ------------------------------------------------------------------------------------------ measuring


@pytest.mark.parametrize("training_mode", [True, False])
def test_predict_leaves_the_model_as_it_was(tiny, training_mode):
    model = models.build("MyNet", **MYNET.options).train(training_mode)
    before, random = training.weights_sum(model), torch.get_rng_state()
    training.predict(model, tiny, tiny.test, FLOAT32)
    assert all(layer.training == training_mode for layer in model.modules())
    assert training.weights_sum(model) == before
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("engine", [FLOAT32, BFLOAT16], ids=["float32", "bfloat16"])
def test_predict_is_the_model_in_evaluation_and_float32(tiny, engine):
    model = engine.place(models.build("MyNet", **MYNET.options))
    outputs = training.predict(model, tiny, tiny.test, engine)
    model.eval()
    expected = model(tiny.prepare(tiny.test.images))
    assert outputs.dtype == torch.float32 and not outputs.requires_grad
    torch.testing.assert_close(outputs, expected.detach(), rtol=1e-5, atol=1e-6)


def test_predict_keeps_the_order_over_many_batches(tiny_digits):
    train, model = tiny_digits.train, models.LeNet()
    many = data.Split(train.images.repeat(16, 1, 1, 1), train.labels.repeat(16))
    once, often = (training.predict(model, tiny_digits, split, FLOAT32) for split in (train, many))
    torch.testing.assert_close(often, once.repeat(16, 1), rtol=1e-4, atol=1e-6)


def test_predict_scales_where_a_run_does_not_normalise(tiny_digits):
    model = models.LeNet()
    outputs = training.predict(model, tiny_digits, tiny_digits.test, FLOAT32, normalize=False)
    expected = model(tiny_digits.test.images / 255).detach()
    torch.testing.assert_close(outputs, expected, rtol=1e-5, atol=1e-6)


def test_predict_is_the_mean_over_an_image_and_its_mirror_image_where_a_run_says_so(tiny):
    model = models.build("MyNet", **MYNET.options)
    outputs = training.predict(model, tiny, tiny.test, FLOAT32, flipped=True)
    model.eval()
    images = tiny.prepare(tiny.test.images)
    expected = (model(images) + model(images.flip(3))) / 2
    torch.testing.assert_close(outputs, expected.detach(), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(outputs, training.predict(model, tiny, tiny.test, FLOAT32))


def test_evaluate_is_the_score_of_the_split_as_far_as_the_run_takes_it(tiny_digits):
    torch.manual_seed(0)
    model = models.LeNet()
    for count in (None, 10):
        images, labels = tiny_digits.test.images[:count], tiny_digits.test.labels[:count]
        outputs = model(tiny_digits.prepare(images))
        loss, accuracy = training.evaluate(model, replace(LENET, images=count), tiny_digits, tiny_digits.test, FLOAT32)
        assert loss == pytest.approx(nn.functional.cross_entropy(outputs, labels).item(), rel=1e-5)
        assert accuracy == pytest.approx((outputs.argmax(1) == labels).double().mean().item())


def test_weights_sums_are_equal_only_if_every_bit_is():
    torch.manual_seed(0)
    model = models.MyNet(kernels=(1, 1), hidden=8)
    before = training.weights_sum(model)
    assert training.weights_sum(model) == before
    assert training.weights_sum(model.to(memory_format=torch.channels_last)) == before
    for tensor in (model.classifier[3].bias, model.features[1].running_mean):  # a weight, a buffer
        bits = tensor.detach().view(torch.int32)
        bits[0] ^= 1
        assert training.weights_sum(model) != before
        bits[0] ^= 1
        assert training.weights_sum(model) == before
