"""Tests of the engine: what it places and changes, that it keeps names and memory, and which one is chosen."""

import os
import platform
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from helpers import models, records
from helpers.experiments import replace
from helpers.fast import Engine, build, choose_engine, engine, fused, winograd
from helpers.training import Trainer
from tests.fast.networks import images_for, networks, trained, two
from tests.test_dessilbi import needs_compiler
from tests.test_training import LENET, MYNET, begin


@pytest.mark.parametrize("layout, format", [
    ("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last),
])  # fmt: skip
def test_an_engine_places_models_and_images_in_its_memory_format(layout, format):
    engine = Engine(memory_format=layout)
    assert engine.place(torch.rand(2, 3, 8, 8)).is_contiguous(memory_format=format)
    weights = [p for p in engine.place(models.MyNet()).parameters() if p.ndim == 4]
    assert weights and all(weight.is_contiguous(memory_format=format) for weight in weights)


@pytest.mark.parametrize("precision, dtype", [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_an_engine_computes_in_its_precision_and_keeps_weights_and_losses_in_float32(tiny, precision, dtype):
    seen = []
    trainer, batches = begin(replace(MYNET, epochs=1), tiny, Engine(precision=precision))
    trainer.model.features[0].register_forward_hook(lambda layer, given, output: seen.append(output.dtype))
    loss, outputs = trainer.step_on(*batches(0))
    assert seen == [dtype]
    assert (loss.dtype, outputs.dtype) == (torch.float32, torch.float32)
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("kind", ["matmul", pytest.param("winograd", marks=needs_compiler)])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_convolutions_of_each_kind_train_to_the_same_losses(tiny, layout, kind):
    # Without dropout, which takes its random numbers in the order of memory.
    run, losses = replace(MYNET, options={**MYNET.options, "kernels": (3, 3), "dropout": 0.0}, epochs=1), {}
    for each in ("direct", kind):
        trainer, batches = begin(run, tiny, Engine(memory_format=layout, convolutions=each))
        first, second = (layer for layer in trainer.model.modules() if isinstance(layer, nn.Conv2d))
        assert type(first) is nn.Conv2d and second.kind == each  # the first is too narrow
        losses[each] = [trainer.step_on(trainer.engine.place(images), labels)[0].item()
                        for images, labels in map(batches, range(3))]  # fmt: skip
    assert losses[kind] == pytest.approx(losses["direct"], rel=1e-4)


def test_a_trainer_pools_before_relu(tiny):
    trainer, _ = begin(replace(MYNET, epochs=1), tiny)
    kinds = [type(layer) for layer in trainer.model.features]
    assert all(kinds[place + 1] is nn.ReLU for place, kind in enumerate(kinds) if kind is nn.MaxPool2d)


def candidates(fused):
    contiguous = [Engine("cpu", precision, "contiguous", 1) for precision in ("float32", "bfloat16")]
    kinds = ["direct", "matmul", *["winograd"] * fused]  # it takes a compiler as well
    return contiguous + [Engine("cpu", precision, "channels_last", 1, kind, fused)
                         for kind in kinds for precision in ("float32", "bfloat16")]  # fmt: skip


@pytest.fixture
def emulated(monkeypatch):
    """Sets whether the processor merely emulates bfloat16, whatever the one at hand does."""
    return lambda value: monkeypatch.setattr(engine, "emulates_bfloat16", lambda device: value)


def test_the_engine_chosen_is_a_candidate():
    assert choose_engine(LENET, Trainer) in candidates(fused.available())
    assert choose_engine(LENET, Trainer, threads=1, precision="bfloat16").precision == "bfloat16"


def steps_that_take(monkeypatch, seconds, loss):
    """Each engine's training step takes `seconds(engine)` and gives `loss(engine)`."""

    def step_on(trainer, images, labels, probes=()):
        time.sleep(seconds(trainer.engine))
        return torch.tensor(loss(trainer.engine)), torch.zeros(len(labels), 10)

    monkeypatch.setattr(Trainer, "step_on", step_on)


@pytest.mark.parametrize("fastest", [*candidates(False), *(
    pytest.param(engine, marks=needs_compiler) for engine in candidates(True))], ids=str)  # fmt: skip
def test_the_fastest_of_sound_engines_is_chosen(monkeypatch, emulated, fastest):
    emulated(False)
    for each in (fused, winograd):
        monkeypatch.setattr(each, "available", lambda: fastest.fused)
    steps_that_take(monkeypatch, lambda engine: 0.001 if engine == fastest else 0.05, lambda engine: 2.3)
    assert choose_engine(LENET, Trainer) == fastest


def test_without_a_compiler_nothing_is_compiled(monkeypatch):
    def missing():
        raise build.CompilerError("needs a C++ compiler: none")

    monkeypatch.setattr(fused, "kernel", missing)
    monkeypatch.setattr(winograd, "kernel", missing)
    assert not fused.available() and not winograd.available()
    for each in (Engine(fused=True), Engine(convolutions="winograd")):
        with pytest.raises(RuntimeError, match=r"^needs a C\+\+ compiler"):
            Trainer(LENET, each, steps=1)
    chosen = choose_engine(MYNET, Trainer)
    assert not chosen.fused and chosen.convolutions != "winograd"


def test_a_gpu_is_filled_with_work_to_choose_for_it(monkeypatch, emulated):
    tried = {}

    def step(trainer, images, labels) -> float:
        tried[trainer.engine.device] = len(images), len(labels)
        return 2.3

    emulated(False)
    monkeypatch.setattr(engine, "_step", step)
    for device in ("cpu", "cuda"):
        found = choose_engine(LENET, lambda run, engine, steps: SimpleNamespace(engine=engine), device)
        assert found.device == device
    batch = LENET.batch_size
    assert tried == {"cpu": (batch, batch), "cuda": (16 * batch, 16 * batch)}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("emulates", [False, True])
def test_a_precision_asked_for_is_kept_though_the_other_is_faster(monkeypatch, emulated, precision, emulates):
    emulated(emulates)
    steps_that_take(monkeypatch, lambda engine: 0.01 if engine.precision == precision else 0.0, lambda engine: 2.3)
    assert choose_engine(LENET, Trainer, precision=precision).precision == precision


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), 2.3 * 1.06, 2.3 * 0.94, -2.3])
def test_an_unsound_engine_is_not_chosen_however_fast(monkeypatch, emulated, loss):
    emulated(False)
    steps_that_take(monkeypatch, lambda engine: 0.0 if engine.precision == "bfloat16" else 0.01,
                    lambda engine: loss if engine.precision == "bfloat16" else 2.3)  # fmt: skip
    assert choose_engine(LENET, Trainer).precision == "float32"


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_where_none_is_sound_it_is_torchs_own(monkeypatch, emulated, loss):
    emulated(False)
    steps_that_take(monkeypatch, lambda engine: 0.0, lambda engine: loss)
    assert choose_engine(LENET, Trainer) == Engine()


def test_not_one_step_is_tried_in_a_bfloat16_that_is_emulated(monkeypatch, emulated):
    emulated(True)
    tried = set()
    steps_that_take(monkeypatch, lambda engine: tried.add(engine.precision) or 0.0, lambda engine: 2.3)
    assert choose_engine(LENET, Trainer).precision == "float32"
    assert tried == {"float32"}


@pytest.mark.parametrize("times, emulates", [(1, False), (3, False), (5, True), (100, True)])
def test_bfloat16_is_emulated_where_its_products_take_several_times_as_long(monkeypatch, times, emulates):
    seconds = iter([0.02 * times, 0.02])
    monkeypatch.setattr(engine.timeit, "repeat", lambda step, **options: step() and [next(seconds)] * 3)
    assert engine.emulates_bfloat16() == emulates


@pytest.mark.parametrize("field, value, said", [
    ("precision", "float16", "an engine's precision is float32 or bfloat16, not 'float16'"),
    ("memory_format", None, "an engine's memory_format is contiguous or channels_last, not None"),
    ("convolutions", ["direct"], "an engine's convolutions is direct, matmul or winograd, not ['direct']"),
    ("fused", "yes", "an engine's fused is False or True, not 'yes'"),
    ("device", 0, "an engine's device is cpu, cuda or cuda:N, not 0"),
    *(("threads", each, f"an engine's threads is 1 to 999, not {each!r}") for each in (10**6, 0, "1", True)),
])  # fmt: skip
def test_what_no_engine_is_is_told(field, value, said):
    with pytest.raises(ValueError) as raised:
        Engine(**{field: value})
    assert str(raised.value) == said


# ------------------------------------------------------------------------------------------ traced

EVERYTHING = Engine(memory_format="channels_last", convolutions="winograd", fused=True)
traced = [pytest.param(Engine(memory_format="channels_last", convolutions="matmul"), id="products"),
          pytest.param(EVERYTHING, marks=needs_compiler, id="compiled")]  # fmt: skip


def sped_up(name, options, kind):
    model, changed = two(name, options, lambda model: None)
    return model, engine.speed_up(kind.place(changed), kind), kind.place(images_for(name))


def same(mine, others):
    (losses, gradients), (their_losses, theirs) = mine, others
    assert losses == pytest.approx(their_losses, rel=1e-4)
    for name, gradient in theirs.items():
        if gradient.norm() > 1e-4:  # that of a bias before batch norm is zero but for rounding
            assert (gradients[name] - gradient).norm() < 0.02 * gradient.norm(), name


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("kind", traced)
@pytest.mark.parametrize("name, options", [
    ("LeNet", {}), ("MyNet", {"kernels": (3, 3), "dropout": 0.0}),
], ids=["LeNet", "MyNet"])  # fmt: skip
def test_a_model_that_torch_compiles_learns_the_same(name, options, kind, backend):
    model, changed, images = sped_up(name, options, kind)
    torch.compiler.reset()
    compiled = torch.compile(changed, backend=backend, fullgraph=True)
    assert [*compiled.state_dict()] == [f"_orig_mod.{each}" for each in model.state_dict()]
    losses, gradients = trained(compiled, images)
    same((losses, {name.removeprefix("_orig_mod."): each for name, each in gradients.items()}), trained(model, images))


@pytest.mark.parametrize("kind", traced)
def test_a_model_that_is_exported_computes_the_same(kind):
    model, changed, images = sped_up("VGG", {}, kind)
    outputs = torch.export.export(changed.eval(), (images,)).module(check_guards=False)(images)
    torch.testing.assert_close(outputs, model.eval()(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", traced)
def test_tensors_without_numbers_get_their_shapes(kind):
    _, changed, images = sped_up("VGG", {}, kind)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert changed(mode.from_tensor(images)).shape == (6, 10)


# ------------------------------------------------------------------------------------------ memory


STEPS = """
import resource, torch
from helpers.fast import engine
if {kept}:
    engine.keep_memory()
def step():
    activations = [torch.ones(1000, 1000) for layer in range(10)]  # 4 MB each
for _ in range(5):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_that_is_freed_is_kept_for_the_next_step():
    giving_back = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # else it depends on what lies beside it
    pages = {kept: int(subprocess.run([sys.executable, "-c", STEPS.format(kept=kept)], cwd=records.ROOT, text=True,
                                      env=giving_back, capture_output=True, check=True).stdout)
             for kept in (True, False)}  # fmt: skip
    assert pages[True] < 100 < 10_000 < pages[False]


@pytest.mark.parametrize("most, calls", [
    (2**30, [(-3, 2**30), (-1, 2**30)]), (2**25, [(-3, 2**30), (-3, 2**25), (-1, 2**30)]),
    (0, [(-3, 2**30), (-3, 2**25)]),
])  # fmt: skip
def test_what_is_kept_is_only_set_where_large_blocks_can_be(monkeypatch, most, calls):
    asked = []

    class Library:
        @staticmethod
        def mallopt(what, number):
            asked.append((what, number))
            return int(number <= most)

    monkeypatch.setattr(engine.ctypes, "CDLL", lambda name: Library)
    engine.keep_memory()
    assert asked == calls


@pytest.mark.parametrize("library", [object(), None])
def test_where_there_is_no_glibc_memory_is_left_alone(monkeypatch, library):
    def missing(name):
        if library is None:
            raise TypeError
        return library

    monkeypatch.setattr(engine.ctypes, "CDLL", missing)
    engine.keep_memory()


# ------------------------------------------------------------------------------------------ pooling first


@networks
def test_pooling_first_changes_not_one_bit(name, options):
    model, changed = two(name, options, engine.pool_first)
    (losses, gradients), (others, theirs) = (trained(each, images_for(name)) for each in (model, changed))
    assert losses == others
    assert all(torch.equal(gradients[name], theirs[name]) for name in gradients)


def test_nor_where_many_numbers_of_a_window_are_equal():
    model, changed = two("MyNet", {}, engine.pool_first)
    images = images_for("MyNet").bfloat16()  # 8 bits a number
    assert trained(model.bfloat16(), images)[0] == trained(changed.bfloat16(), images)[0]


@networks
def test_pooling_first_keeps_all_names(name, options):
    model, changed = two(name, options, engine.pool_first)
    assert list(changed.state_dict()) == list(model.state_dict())
    assert {name: type(layer) for name, layer in changed.named_modules()} == {
        name: type(layer) for name, layer in model.named_modules()
    }


def kinds(model):
    return [type(layer).__name__ for layer in model.modules() if not [*layer.children()]]


def test_relu_comes_after_each_pool_that_it_was_before():
    model = models.build("VGG")
    engine.pool_first(model)
    pools = [place for place, kind in enumerate(kinds(model)) if kind == "MaxPool2d"]
    assert len(pools) == 5
    assert all(kinds(model)[place - 1 : place + 2] == ["BatchNorm2d", "MaxPool2d", "ReLU"] for place in pools)


def test_relu_goes_past_pools_that_follow_each_other():
    model = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.MaxPool2d(2), nn.Flatten())
    engine.pool_first(model)
    assert kinds(model) == ["MaxPool2d", "MaxPool2d", "ReLU", "Flatten"]


def test_doing_it_twice_does_no_more():
    model = models.build("MyNet")
    engine.pool_first(model)
    once = kinds(model)
    engine.pool_first(model)
    assert kinds(model) == once


@pytest.mark.parametrize("layers", [
    [nn.Tanh(), nn.MaxPool2d(2)],  # equal but for rounding
    [nn.ReLU(), nn.AvgPool2d(2)],  # a mean is something else
    [nn.ReLU(), nn.Dropout(0.5), nn.MaxPool2d(2)],
    [nn.MaxPool2d(2), nn.ReLU()],
], ids=lambda layers: " ".join(type(layer).__name__ for layer in layers))  # fmt: skip
def test_what_is_no_relu_before_a_max_pool_stays(layers):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), *layers)
    before = kinds(model)
    engine.pool_first(model)
    assert kinds(model) == before
