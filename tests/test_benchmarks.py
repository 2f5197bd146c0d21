"""The benchmarks' own arithmetic, with numbers worked out by hand. Nothing in here is timed, so that no busy
machine makes it fail."""

import functools
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks import (
    __main__,
    figure,
    kernels,
    measure,
    memory,
    optimizer,
    page,
    profiles,
    pruned,
    results,
    rounding,
    training,
)
from benchmarks.plain import PlainDessiLBI
from helpers import dessilbi, models, pruning, records
from helpers.experiments import replace
from helpers.fast import Engine
from tests.test_dessilbi import needs_compiler
from tests.test_training import LENET, MYNET

FUSED_WINOGRAD = Engine(memory_format="channels_last", convolutions="winograd", fused=True)
MYNET = replace(MYNET, options={"kernels": (3, 3)})

# ------------------------------------------------------------------------------------------ timing


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on only when it is told to, by so many seconds."""
    now = [0.0]
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def test_each_is_timed_in_turn_after_an_untimed_call(clock):
    took, order = {"a": iter([9, 1, 3, 2, 2]), "b": iter([9, 5, 5, 4, 4])}, []
    calls = {name: lambda name=name: order.append(name) or clock(next(took[name])) for name in took}
    assert measure.in_turn(calls, repeats=2, calls=2) == {"a": [2, 2], "b": [5, 4]}
    assert order == ["a", "b", "a", "a", "b", "b", "a", "a", "b", "b"]


def test_a_candidate_may_time_itself(clock):
    assert measure.in_turn({"a": lambda: clock(7) or 0.5}, repeats=1, calls=2) == {"a": [0.5]}


def test_the_fastest_counts():
    assert measure.summary([4.0, 2.0, 3.0]) == {"seconds": 2.0, "median": 3.0, "spread": 0.5}
    assert measure.ratios({"a": [4.0, 2.0], "b": [9.0, 5.0]}, to="a") == {"a": 1.0, "b": 2.5}


# ------------------------------------------------------------------------------------------ limits


def test_bandwidth_is_that_of_the_faster_way():
    # 100 numbers of 4 bytes: half of them copied is 200 bytes in and 200 out; all of them in place is 400 and 400.
    assert measure.bandwidth({"copy": [2.0, 1.0], "in place": [4.0]}, 100) == 400
    assert measure.bandwidth({"copy": [2.0], "in place": [1.0]}, 100) == 800


def test_the_peak_is_that_of_the_fastest_product():
    assert measure.peak({"a": [2.0, 1.0], "b": [2.0]}, {"a": 30, "b": 80}) == 40


def test_multiply_adds_of_training():
    # 3×3 over 2 channels to 4, 6×6 → 4×4: 16 · 4 · 18; over 4 to 4, with a border of 1: 10 · 10 · 4 · 4; 64 → 5.
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Flatten(), nn.Linear(64, 5))
    assert measure.training_multiply_adds(net, (2, 6, 6)) == 2 * 1152 + 3 * (1600 + 320)
    assert net.training and not any(layer._forward_hooks for layer in net)


def test_multiply_adds_without_those_by_zeros_of_the_padding_by_hand():
    # 3×3 over 4×4 with a border of 1: along a side 2 places see 2 pixels and 2 see 3. Every second place: one of each.
    for stride, met in ((1, 10 * 10), (2, 5 * 5)):
        model = nn.Sequential(nn.Conv2d(2, 6, 3, stride, padding=1, groups=2), nn.Flatten(), nn.LazyLinear(3))
        model(torch.zeros(1, 2, 4, 4))
        linear = 3 * model[2].in_features
        assert measure.needed_multiply_adds(model, (2, 4, 4)) == [met * 6, linear]
        assert pruning.multiply_adds(model, torch.zeros(1, 2, 4, 4)) == (16 if stride == 1 else 4) * 9 * 6 + linear


def test_bytes_of_a_step():
    assert measure.step_bytes(10, reads=3, writes=2) == 200
    net = nn.Linear(3, 2)  # 6 weights with a penalty, 2 biases without
    limits = optimizer.limits(net, bandwidth=4.0)
    assert limits == {"SGD": 8 * 5, "Adam": 8 * 7, "DessiLBI": 2 * 5 + 6 * 7, "DessiLBIAdam": 2 * 7 + 6 * 9}


def test_the_peak_is_this_processs_own():
    # A small process, started by this one, which holds torch: its peak must not be ours.
    program = "from benchmarks import memory; print(memory.resident(), memory.peak())"
    done = subprocess.run([sys.executable, "-c", program], cwd=records.ROOT, capture_output=True, text=True, check=True)
    now, top = map(float, done.stdout.split())
    assert now <= top < memory.peak() / 2


def test_growth_of_memory_leaves_the_first_epoch_out():
    assert memory.growth([100.0, 130.0, 131.0, 132.0, 133.0, 134.0]) == 1.0


# ------------------------------------------------------------------------------------------ what is compared


def test_what_the_authors_write_is_what_ours_computes():
    torch.manual_seed(0)
    one = models.LeNet().double()
    other = models.LeNet().double()
    other.load_state_dict(one.state_dict())
    plain = PlainDessiLBI(one.parameters(), lr=0.1, kappa=2.0, mu=5.0)
    ours = dessilbi.DessiLBI(dessilbi.param_groups(other), lr=0.1, kappa=2.0, mu=5.0)
    for step in range(20):
        for a, b in zip(one.parameters(), other.parameters()):
            a.grad = torch.randn(a.shape, generator=torch.Generator().manual_seed(step)).double()
            b.grad = a.grad.clone()
        plain.step()
        ours.step()
    for a, b in zip(one.parameters(), other.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
        if b.ndim > 1:
            gamma = plain.state[a]["gamma"]
            torch.testing.assert_close(gamma, ours.gamma(b), rtol=1e-9, atol=1e-9)
            assert (gamma != 0).any()


@pytest.mark.parametrize("name", optimizer.NAMES)
def test_what_is_timed_is_set_back_now_and_then(name):
    if name not in optimizer.possible():
        pytest.skip("needs a C++ compiler")
    stepper = optimizer.Stepper(name, "LeNet")
    for _ in range(optimizer.RESET):
        stepper()
    assert any(not torch.equal(p, start) for p, start in zip(stepper.model.parameters(), stepper.start))
    stepper.reset()
    assert all(torch.equal(p, start) for p, start in zip(stepper.model.parameters(), stepper.start))


def test_networks_with_filters_cut_out():
    networks = pruned.smaller("LeNet")
    assert list(networks) == ["whole", "60% cut", "80% cut", "90% cut"]
    # conv1, conv2: 156 + 2,416; conv3: 120, 48, 24, 12 filters of 401; fc1: so many inputs · 84 + 84; fc2: 850
    sizes = [2_572 + 401 * n + 84 * n + 84 + 850 for n in (120, 48, 24, 12)]
    assert [models.count_parameters(network) for network in networks.values()] == sizes


def test_every_convolution_of_vgg_is_pruned():
    whole, cut = (pruned.smaller("VGG")[name] for name in ("whole", "90% cut"))
    widths = [
        [layer.out_channels for layer in model.features if isinstance(layer, nn.Conv2d)] for model in (whole, cut)
    ]
    assert widths[1] == [width - round(0.9 * width) for width in widths[0]]


def test_the_spread_of_gradients_is_that_around_a_mean_of_many():
    # Two of 1 ± 0.5: variance 0.5, of which half is in the square of their mean, 1.
    assert rounding.spread([torch.tensor([0.5]), torch.tensor([1.5])]) == pytest.approx((0.5 / 0.75) ** 0.5)
    torch.manual_seed(0)
    several = [torch.ones(1000) + 3 * torch.randn(1000) for _ in range(20)]
    assert rounding.spread(several) == pytest.approx(3, rel=0.05)


@needs_compiler
@pytest.mark.parametrize("name, case, of", [
    ("winograd", MYNET, "winograd::spread"), ("fused", MYNET, "fused::forward"), ("narrow", LENET, "narrow::forward"),
    ("products", LENET, "aten::linear"),
])  # fmt: skip
def test_each_way_can_be_left_out(name, case, of, tiny, tiny_digits):
    ran = {}
    for each in (kernels.ALL, name):
        with kernels.without(each):
            ours = training.Ours(case, tiny if case is MYNET else tiny_digits, FUSED_WINOGRAD)
            with profile(activities=[ProfilerActivity.CPU]) as profiled:
                ours.seconds(1)
        ran[each] = sum(event.name == of for event in profiled.events())
    assert ran[kernels.ALL] > ran[name] == (2 if of == "aten::linear" else 0)  # those at LeNet's end are no convolution


@needs_compiler
def test_leaving_out_ends(tiny_digits):
    before = [getattr(module, name) for replaced in kernels.WITHOUT.values() for module, name, _ in replaced]
    for name in ("pool first", "optimizer over rows"):
        with kernels.without(name):
            trainer = training.Ours(LENET, tiny_digits, FUSED_WINOGRAD).trainer
            kinds = [type(layer) for layer in trainer.model.features]
            assert (kinds.index(nn.ReLU) < kinds.index(nn.MaxPool2d)) == (name == "pool first")
            assert (type(trainer.optimizer) is torch.optim.SGD) == (name == "optimizer over rows")
    assert before == [getattr(module, name) for replaced in kernels.WITHOUT.values() for module, name, _ in replaced]


@needs_compiler
def test_what_each_way_brings_is_how_much_longer_a_step_takes_without(monkeypatch, tiny_digits):
    seconds = {name: 2.0 + place for place, name in enumerate(kernels.WITHOUT)}
    monkeypatch.setattr(kernels.data, "load_for", lambda run: tiny_digits)
    monkeypatch.setattr(kernels, "_timed", lambda name, ours, count: seconds[name])
    part = kernels.brought("LeNet", "float32", 1)
    assert part["seconds"] == seconds and part["longer_without"]["winograd"] == 0.5
    assert [*part["longer_without"]] == [*kernels.WITHOUT][1:]


@pytest.mark.parametrize("name, callers, group", [
    ("aten::mkldnn_convolution", ["aten::conv2d"], "convolution, linear: forward"),
    ("aten::mkldnn_convolution_backward_weights", ["autograd::engine::evaluate_function: ConvolutionBackward0"],
     "convolution, linear: backward"),
    ("aten::native_batch_norm_backward", ["autograd::engine::evaluate_function: NativeBatchNormBackward0"],
     "batch norm"),
    ("aten::copy_", ["_ConvolveBackward", "autograd::engine::evaluate_function: _ConvolveBackward"],
     "convolution, linear: backward"),
    ("aten::copy_", ["_Convolve"], "convolution, linear: forward"),
    ("narrow::forward", ["_ConvolvePoolReLU"], "convolution, linear: forward"),
    ("narrow::backward", ["_ConvolvePoolReLUBackward"], "convolution, linear: backward"),
    ("fused::sums", ["_NormPoolReLUBackward", "autograd::engine::evaluate_function: _NormPoolReLUBackward"],
     "batch norm"),
    ("aten::threshold_backward", [], "ReLU, pooling, dropout"),
    ("aten::copy_", ["aten::to", "aten::conv2d"], "precision, layout"),
    ("aten::copy_", ["aten::to", "batches"], "batches"), ("batches", [], "batches"),
    ("aten::_fused_sgd_", ["Optimizer.step#SGD.step"], "optimizer"), ("Optimizer.step#SGD.step", [], "optimizer"),
    ("aten::argmax", [], "other operators"),
])  # fmt: skip
def test_operators_by_what_they_are_for(name, callers, group):
    assert profiles.group(name, callers) == group


def test_time_by_group_is_each_operators_own():
    outer = SimpleNamespace(name="aten::conv2d", cpu_parent=None, self_cpu_time_total=1e6)
    inner = SimpleNamespace(name="aten::copy_", cpu_parent=outer, self_cpu_time_total=2e6)
    seconds = profiles.grouped([outer, inner])
    assert seconds["convolution, linear: forward"] == 1 and seconds["precision, layout"] == 2
    assert sum(seconds.values()) == 3 and set(seconds) == set(profiles.GROUPS)


# ------------------------------------------------------------------------------------------ what is written


def test_results_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    results.write({"a": {"seconds": 1.23456, "list": (1, 2.0)}}, path)
    assert results.read(path) == {"a": {"seconds": 1.235, "list": [1, 2.0]}}
    monkeypatch.setattr(results.json, "dump", lambda *arguments, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        results.write({}, path)
    assert os.listdir(tmp_path) == ["results.json"] and "a" in results.read(path)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(ValueError, match="results.json is damaged"):
        results.read(tmp_path / "results.json")


def test_each_part_is_kept_as_soon_as_it_is_measured(tmp_path, monkeypatch):
    def interrupted(repeats: int) -> dict:
        raise KeyboardInterrupt

    path = tmp_path / "results.json"
    monkeypatch.setattr(results, "PATH", path)
    monkeypatch.setattr(__main__, "show", lambda path: None)
    monkeypatch.setattr(__main__, "PARTS", {"one": lambda repeats: {"value": repeats}, "two": interrupted})
    assert __main__.main(["--repeats", "3"]) == 130
    written = json.loads(path.read_text())
    assert list(written) == ["one"] and written["one"]["value"] == written["one"]["repeats"] == 3
    assert written["one"]["machine"]["torch"] and written["one"]["revision"]
    assert __main__.main(["--only", "one", "--repeats", "4"]) == 0 and results.read(path)["one"]["value"] == 4


def test_a_wrong_word_is_told(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(results, "PATH", tmp_path / "results.json")
    monkeypatch.setattr(__main__, "show", lambda path: pytest.fail("nothing is measured, so nothing is drawn"))
    assert __main__.main(["--only", "nonsense"]) == 2 and __main__.main(["--repeats", "0"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[0].startswith("benchmarks: no part is called 'nonsense': there are step LeNet, step VGG")
    assert errors[1] == "benchmarks: repeats 0 is not allowed: it must be at least 1"


def test_a_page_without_a_marker_is_told_in_one_line(capsys, monkeypatch, tmp_path):
    (tmp_path / "speed.md").write_text("<!-- steps -->\nold\n<!-- /steps -->")
    monkeypatch.setattr(results, "PATH", tmp_path / "results.json")
    monkeypatch.setattr(__main__, "PARTS", {"one": lambda repeats: {"value": repeats}})
    monkeypatch.setattr(page, "rewrite", functools.partial(page.rewrite, path=tmp_path / "speed.md"))
    assert __main__.main([]) == 1 and list(results.read(tmp_path / "results.json")) == ["one"]
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(f"benchmarks: {tmp_path}/speed.md: no markers <!-- pruned -->")
    assert (tmp_path / "speed.md").read_text().splitlines()[1] == "old"


def test_the_figure_shows_steps_and_epochs(tmp_path):
    figure.draw({}, tmp_path / "none.svg")
    assert not list(tmp_path.iterdir())
    took, machine = {"seconds": 2.0}, {"processor": "Swift", "instructions": "AVX2"}
    parts = {
        "step VGG": {
            "machine": {"processor": "Sure"},
            "ratio_to_fused_sgd": {"SGD, fused": 1.0, "DessiLBI": 2.0},
            "limit_ratio": {"SGD": 0.8},
        },
        "epoch LeNet, 1 thread, float32": {"machine": machine, "ours": took, "usual": took, "limit_seconds": 1.0},
    }
    figure.draw(parts, tmp_path / "all.svg")
    assert sorted(os.listdir(tmp_path)) == ["all.png", "all.svg"]
    drawn = (tmp_path / "all.svg").read_text()
    assert drawn.count("Sure") == drawn.count("Swift with AVX2") == 1


def test_the_figure_shows_epochs_on_the_last_processor_that_measured_all():
    def epoch(processor, seconds):
        took = {"ours": {"seconds": seconds}, "usual": {"seconds": 9.0}, "limit_seconds": 0.5}
        return {"machine": {"processor": processor}, **took}

    parts = {
        "epoch LeNet, 1 thread, float32": {**epoch("Half", 3.0), "elsewhere": {"Last": epoch("Last", 2.0),
                                                                               "Swift": epoch("Swift", 1.0)}},
        "epoch MyNet, 1 thread, float32": {**epoch("Last", 4.0), "elsewhere": {"Swift": epoch("Swift", 1.5)}},
    }  # fmt: skip
    ((title, bars),) = figure._epochs(parts)
    assert title.endswith("\nLast")
    assert [bar[:3] for bar in bars if bar[0] != "usual loop"] == [("LeNet, ours", 2.0, 0.5), ("MyNet, ours", 4.0, 0.5)]


def test_a_part_that_fails_leaves_the_others(tmp_path, monkeypatch, capsys):
    def failing(repeats: int) -> dict:
        raise RuntimeError("no such thing\nand more")

    path = tmp_path / "results.json"
    monkeypatch.setattr(results, "PATH", path)
    monkeypatch.setattr(__main__, "show", lambda path: None)
    monkeypatch.setattr(__main__, "PARTS", {"one": failing, "two": lambda repeats: {"value": repeats}})
    assert __main__.main(["--repeats", "3"]) == 1
    assert "benchmarks: one could not be measured: no such thing\n" in capsys.readouterr().err
    assert list(results.read(path)) == ["two"] and results.read(path)["two"]["took"] >= 0


def test_what_a_machine_need_not_measure_is_told_and_is_no_failure(tmp_path, monkeypatch, capsys):
    path = tmp_path / "results.json"
    results.write({"epoch LeNet, 1 thread, bfloat16": {"of": "another machine"}}, path)
    monkeypatch.setattr(results, "PATH", path)
    monkeypatch.setattr(__main__, "show", lambda path: None)
    monkeypatch.setattr(training, "emulates_bfloat16", lambda: True)
    assert __main__.main(["--only", "epoch LeNet, 1 thread, bfloat16"]) == 0
    told = "left out: epoch LeNet, 1 thread, bfloat16: this processor only emulates bfloat16\n"
    assert told in capsys.readouterr().err
    assert results.read(path) == {"epoch LeNet, 1 thread, bfloat16": {"of": "another machine"}}


# ------------------------------------------------------------------------------------------ the page


def parts() -> dict:
    provenance = {"machine": {"processor": "P", "torch": "2"}, "revision": "abc"}
    by_group = {**dict.fromkeys(profiles.GROUPS, 0.0), "batch norm": 1.0, "optimizer": 3.0}
    ours, usual = {"seconds": 2.0}, {"seconds": 5.0}
    return {name: {**part, **provenance} for name, part in {
        "step VGG": {"ratio_to_fused_sgd": {"SGD, fused": 1.0, "DessiLBI": 2.5}, "limit_ratio": {"DessiLBI": 1.25}},
        "epoch LeNet, 1 thread, float32": {"ours": ours, "usual": usual, "limit_seconds": 1.0,
                                           "usual_to_ours": 2.5, "ours_to_limit": 2.0},
        "profile LeNet, bfloat16": {"seconds": 0.05, "limit_seconds": 0.002, "seconds_by_group": by_group},
        "kernels LeNet, float32": {"longer_without": {"winograd": 0.0312, "narrow": -0.004}},
        "kernels MyNet, float32": {"longer_without": {"winograd": 0.25}},
        "rounding MyNet": {"off": {"bfloat16": 0.0512, "other": 0.0517}, "spread_of_batches": 2.54},
        "pruned LeNet": {"networks": {"whole": {"parameters": 61_706, "multiply_adds_an_image": 416_520}},
                         "times_as_fast": {"whole": 1.0}},
    }.items()}  # fmt: skip


def test_the_pages_tables():
    shown = page.blocks(parts())
    assert "| DessiLBI | 2.50 |" in shown["steps"] and "| *limit of DessiLBI* | 1.25 |" in shown["steps"]
    assert "| LeNet, 1 thread | 2.0 | 5.0 | 1.0 | 2.50 | 2.00 |" in shown["epochs in float32"]
    for line in ("| ms a step | 50.0 |", "| ms at the limit | 2.0 |", "| batch norm | 25 % |", "| optimizer | 75 % |"):
        assert line in shown["profile in bfloat16"]
    assert "| LeNet | whole | 61,706 | 0.42 | 1.00 |" in shown["pruned"]
    assert "| MyNet | 5.12 % | 5.17 % | 254 % |" in shown["rounding"]
    assert "| without | LeNet | MyNet |" in shown["kernels in float32"]
    assert "| winograd | +3.1 % | +25.0 % |" in shown["kernels in float32"]
    assert "| narrow | -0.4 % | – |" in shown["kernels in float32"]
    for name in ("epochs in bfloat16", "profile in float32", "kernels in bfloat16"):
        assert shown.pop(name) == page.PENDING
    assert all(table.endswith("|\n\nMeasured on P, torch 2, revision abc.") for table in shown.values())


def test_parts_of_one_table_from_two_revisions_are_told_apart():
    one = parts()["profile LeNet, bfloat16"]
    shown = page.blocks(
        {**parts(), "profile MyNet, bfloat16": {**one, "revision": "def"}, "profile VGG, bfloat16": one}
    )
    both = "\n\nMeasured on P, torch 2, revision abc (LeNet; VGG); torch 2, revision def (MyNet)."
    assert shown["profile in bfloat16"].endswith(both)
    assert shown["steps"].endswith("Measured on P, torch 2, revision abc.")


def test_each_place_has_a_table_of_its_own():
    known = parts()
    part = known["profile LeNet, bfloat16"]
    new = {**part, "seconds": 0.07, "machine": {"processor": "Q", "torch": "3"}}
    known["profile LeNet, bfloat16"] = results.added(new, part)
    shown = page.blocks({**known, "profile MyNet, bfloat16": part})["profile in bfloat16"]
    first, second = shown.split("Measured on ")[:2]
    assert "|  | LeNet |" in first and "| ms a step | 70.0 |" in first
    assert second.startswith("Q, torch 3, revision abc.\n\n|  | LeNet | MyNet |")
    assert "| ms a step | 50.0 | 50.0 |" in second and shown.endswith("Measured on P, torch 2, revision abc.")


def test_what_another_processor_measured_stays():
    p, q = ({"value": 1, "machine": {"processor": name}} for name in "PQ")
    both = results.added(q, p)
    assert both == {**q, "elsewhere": {"P": p}}
    again = results.added({**q, "value": 2}, both)
    assert again == {**q, "value": 2, "elsewhere": {"P": p}}
    assert results.added({**p, "value": 3}, again) == {**p, "value": 3, "elsewhere": {"Q": {**q, "value": 2}}}
    assert results.added(p, None) == p and results.added({**p, "value": 2}, p) == {**p, "value": 2}


def test_processors_of_one_name_are_told_apart_by_their_instructions():
    with_amx, without = ({"machine": {"processor": "P", "instructions": each}} for each in ("AMX", "AVX-512"))
    assert results.added(without, with_amx) == {**without, "elsewhere": {"P with AMX": with_amx}}
    held = {"machine": {**with_amx["machine"], "held_to": "AVX2"}}
    assert results.place(held) == "P held to AVX2"


@pytest.mark.parametrize("has, name", [
    ({"avx2": True, "avx512_f": True, "avx512_bf16": True, "amx_bf16": True}, "AMX"),
    ({"avx2": True, "avx512_f": True, "avx512_bf16": True, "amx_bf16": False}, "AVX512-BF16"),
    ({"avx2": True, "avx512_f": True}, "AVX-512"), ({"avx2": True}, "AVX2"), ({"architecture": "aarch64"}, None),
])  # fmt: skip
def test_the_fastest_instructions_name_a_processor(monkeypatch, has, name):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert __main__.instructions() == name


def test_a_processor_held_to_less_comes_after_the_others():
    p, held = ({"value": 1, "machine": {"processor": "P", **more}} for more in ({}, {"held_to": "AVX2"}))
    both = {**p, "elsewhere": {"P held to AVX2": held}}
    assert results.added(held, p) == results.added(p, held) == results.added(held, both) == both
    assert results.added(held, None) == held
    other = {"value": 2, "machine": {"processor": "Q", "held_to": "AVX2"}}
    assert results.added(other, held) == {**other, "elsewhere": {"P held to AVX2": held}}


def test_what_is_not_measured_is_told():
    assert set(page.blocks({}).values()) == {page.PENDING}


def test_the_page_has_a_place_for_each_table(tmp_path):
    copy = tmp_path / "speed.md"
    copy.write_text(page.PATH.read_text(encoding="utf-8"), encoding="utf-8")
    page.rewrite(parts(), copy)
    assert all(block in copy.read_text(encoding="utf-8") for block in page.blocks(parts()).values())


def test_the_page_is_up_to_date(tmp_path):
    if not results.PATH.exists():
        pytest.skip("nothing is measured yet: `make bench`")
    copy = tmp_path / "speed.md"
    copy.write_text(page.PATH.read_text(encoding="utf-8"), encoding="utf-8")
    page.rewrite(results.read(), copy)
    assert copy.read_text(encoding="utf-8") == page.PATH.read_text(encoding="utf-8"), "run `make bench`"
