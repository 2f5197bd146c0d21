"""Tests of the declared runs: each row of the report is there with its score, differs from its table's base in one
thing, and has a name that lasts."""

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import experiments
from helpers.experiments import (
    BUDGETS,
    SECTIONS,
    Constant,
    Cosine,
    Cyclic,
    Exponential,
    Mask,
    Reported,
    Run,
    Steps,
    UnknownName,
    at,
    find,
    readings,
    replace,
    replicas,
    reported,
    rows,
)

# ------------------------------------------------------------------------------------------ the report, copied out

# Section, table, row, reported accuracy, reported seconds; None where the report has none.
REPORT = [
    ("1", "1.2 batch norm", "without", 0.716, 493.27),
    ("1", "1.2 batch norm", "with", 0.718, 496.68),
    ("1", "1.3 dropout after each conv", "0", 0.718, 496.68),
    ("1", "1.3 dropout after each conv", "0.5", 0.7597, 506.95),
    ("1", "1.3 dropout after each conv", "0.3", 0.7737, 493.46),
    ("1", "1.3 dropout after each conv", "0.1", None, None),
    ("1", "1.4 loss", "NLL", 0.7737, 493.46),
    ("1", "1.4 loss", "cross-entropy", 0.7571, 490.29),
    ("1", "1.5 optimizer", "SGD with momentum", 0.7737, 493.46),
    ("1", "1.5 optimizer", "Adam", 0.7077, 498.81),
    ("1", "1.5 optimizer", "RMSprop", 0.6341, 517.69),
    ("1", "1.5 optimizer", "Adam, usual rate 1e-3", None, None),
    ("1", "1.5 optimizer", "RMSprop, usual rate 1e-3", None, None),
    ("1", "1.6 activation", "ReLU", 0.7737, 493.46),
    ("1", "1.6 activation", "tanh", 0.5768, 514.81),
    ("1", "1.6 kernels", "5×5 + 5×5", 0.7737, 493.46),
    ("1", "1.6 kernels", "5×5 + 3×3", 0.757, 498.58),
    ("1", "1.6 kernels", "3×3 + 3×3", 0.7436, 490.75),
    ("1", "1.7 hidden size", "1024", 0.7737, 493.46),
    ("1", "1.7 hidden size", "100", 0.7847, 485.98),
    ("1", "1.7 hidden size", "300", 0.7506, 492.81),
    ("1", "1.8 best model", "best model", 0.7847, 485.99),
    ("1", "precision", "as timed", None, None),
    ("1", "precision", "float32", None, None),
    ("1.9", "augmentation", "none", 0.7907, None),
    ("1.9", "augmentation", "crop + flip + normalisation", 0.845, None),
    ("1.9", "L2 regularisation", "none", 0.845, None),
    ("1.9", "L2 regularisation", "1e-4", 0.8675, None),
    ("1.9", "L2 regularisation", "4e-4", 0.8675, None),
    ("1.9", "momentum", "0.5", 0.8675, None),
    ("1.9", "momentum", "0.9", 0.8749, None),
    ("1.9", "learning rate", "0.01", 0.8749, None),
    ("1.9", "learning rate", "cyclic 0.01–0.04", 0.899, None),
    ("1.9", "learning rate", "0.04, then 0.01", 0.882, None),
    ("1.9", "kernel of one block", "5×5, stride 2", 0.899, None),
    ("1.9", "kernel of one block", "3×3, stride 1", 0.9076, None),
    ("1.9", "final", "final", 0.9158, 1128.7),
    ("1.9", "other activations and losses", "ReLU", None, None),
    ("1.9", "other activations and losses", "tanh", None, None),
    ("2", "2.1 accuracy", "VGG-A", 0.764, 20 * 14.53),
    ("2", "2.1 accuracy", "VGG-A + BN", 0.8251, 20 * 18.34),
    ("2", "2.1 accuracy with Adam", "VGG-A", None, None),
    ("2", "2.1 accuracy with Adam", "VGG-A + BN", None, None),
    ("2", "2.1 initialisation", "VGG-A, Kaiming", 0.764, 20 * 14.53),
    ("2", "2.1 initialisation", "VGG-A, PyTorch's own", None, None),
    *(("2", "2.2 loss landscape", f"{model}, {rate}", None, None)
      for model in ("VGG-A", "VGG-A + BN") for rate in ("2e-3", "1e-3", "5e-4", "1e-4")),
    ("3.1", "optimizer", "SGD", 0.9824, 225),
    ("3.1", "optimizer", "DessiLBI", 0.9706, 235),
    ("3.1", "optimizer", "DessiLBI, as stated", None, None),
    ("3.1", "optimizer", "SGD, warm-up", None, None),
    ("3.1", "optimizer", "SGD, warm-up and drop", None, None),
    ("3.1", "optimizer", "DessiLBI, warm-up", None, None),
    ("3.1", "optimizer", "DessiLBI, no momentum", None, None),
    ("3.1", "optimizer", "DessiLBI, authors' setting", None, None),
    ("3.1", "pretrained", "pretrained", 0.9524, None),
    *(("3.1", "what each change brings", row, None, None)
      for row in ("authors' setting", "+ shifts, cosine rate", "+ conv3 alone penalised", "+ κ 20", "+ ν 3",
                  "+ 100 epochs", "+ κ 80", "+ turns and sizes", "+ 200 epochs", "+ κ 60, ν 4, decay, pretrained")),
    *(("3.1", "weaker pulls", row, None, None) for row in ("κ 60, ν 4", "κ 60, ν 5", "κ 80, ν 5")),
    *(("3.1", "other ways to sparse filters", row, None, None) for row in ("DessiLBI", "SGD", "LinBreg", "AdaBreg")),
    *(("3.1", "winning ticket", row, None, None) for row in ("all weights", "early support", "as much at random")),
    ("3.2", "MNIST", "with Adam", 0.9903, None),
    ("3.2", "MNIST", "without", 0.9706, 235),
    ("3.2", "MNIST", "without, as stated", None, None),
    ("3.2", "MNIST", "without, warm-up", None, None),
    ("3.2", "MNIST", "plain SGD", 0.9824, 225),
    ("3.2", "CIFAR-10", "with Adam", 0.8345, None),
    ("3.2", "CIFAR-10", "with Adam, usual rate 1e-3", None, None),
    ("3.2", "CIFAR-10", "without", 0.8185, None),
    ("3.2", "CIFAR-10", "plain SGD", 0.8251, 20 * 18.34),
    ("3.2", "CIFAR-10", "plain Adam, usual rate 1e-3", None, None),
]  # fmt: skip
REPORTED_VALIDATION = {("1", "1.8 best model", "best model"): 0.7807, ("1.9", "final", "final"): 0.9131}

# What each row sets in place of what its table's base has; the base is the row that sets nothing.
CHANGES = {
    "1.2 batch norm": {"without": {"batch_norm": False}, "with": {}},
    "1.3 dropout after each conv": {"0": {}, "0.5": {"dropout": 0.5}, "0.3": {"dropout": 0.3}, "0.1": {"dropout": 0.1}},
    "1.4 loss": {"NLL": {}, "cross-entropy": {"loss": "cross_entropy"}},
    "1.5 optimizer": {
        "SGD with momentum": {},
        "Adam": {"optimizer": "adam", "momentum": 0},
        "RMSprop": {"optimizer": "rmsprop", "momentum": 0},
        "Adam, usual rate 1e-3": {"optimizer": "adam", "momentum": 0, "lr": 0.001},
        "RMSprop, usual rate 1e-3": {"optimizer": "rmsprop", "momentum": 0, "lr": 0.001},
    },
    "1.6 activation": {"ReLU": {}, "tanh": {"activation": "tanh"}},
    "1.6 kernels": {"5×5 + 5×5": {}, "5×5 + 3×3": {"kernels": [5, 3]}, "3×3 + 3×3": {"kernels": [3, 3]}},
    "1.7 hidden size": {"1024": {}, "100": {"hidden": 100}, "300": {"hidden": 300}},
    "1.8 best model": {"best model": {}},
    "precision": {"as timed": {}, "float32": {"precision": "float32"}},
    "augmentation": {"none": {}, "crop + flip + normalisation": {"augment": ["crop", "flip"]}},
    "L2 regularisation": {"none": {}, "1e-4": {"weight_decay": 1e-4}, "4e-4": {"weight_decay": 4e-4}},
    "momentum": {"0.5": {}, "0.9": {"momentum": 0.9}},
    "learning rate": {
        "0.01": {},
        "cyclic 0.01–0.04": {"schedule": {"kind": "cyclic", "high": 0.04}},
        # from epoch 20 of 50 on, a quarter
        "0.04, then 0.01": {"lr": 0.04, "schedule": {"kind": "steps", "at": [0.4], "factor": 0.25}},
    },
    "kernel of one block": {"5×5, stride 2": {}, "3×3, stride 1": {"block_kernel": 3}},
    "final": {"final": {}},
    "other activations and losses": {"ReLU": {}, "tanh": {"activation": "tanh"}},
    "2.1 accuracy": {"VGG-A": {"batch_norm": False}, "VGG-A + BN": {}},
    "2.1 accuracy with Adam": {"VGG-A": {"batch_norm": False}, "VGG-A + BN": {}},
    "2.1 initialisation": {"VGG-A, Kaiming": {}, "VGG-A, PyTorch's own": {"init": "default", "probes": []}},
    "2.2 loss landscape": {
        "VGG-A, 2e-3": {"batch_norm": False}, "VGG-A + BN, 2e-3": {},
        "VGG-A, 1e-3": {"batch_norm": False, "lr": 1e-3}, "VGG-A + BN, 1e-3": {"lr": 1e-3},
        "VGG-A, 5e-4": {"batch_norm": False, "lr": 5e-4}, "VGG-A + BN, 5e-4": {"lr": 5e-4},
        "VGG-A, 1e-4": {"batch_norm": False, "lr": 1e-4}, "VGG-A + BN, 1e-4": {"lr": 1e-4},
    },
}  # fmt: skip

# Table and row handed on → the table and row that is the same run again.
CHAIN = {
    ("1.2 batch norm", "with"): ("1.3 dropout after each conv", "0"),
    ("1.3 dropout after each conv", "0.3"): ("1.4 loss", "NLL"),
    ("1.4 loss", "NLL"): ("1.5 optimizer", "SGD with momentum"),
    ("1.5 optimizer", "SGD with momentum"): ("1.6 activation", "ReLU"),
    ("1.6 activation", "ReLU"): ("1.6 kernels", "5×5 + 5×5"),
    ("1.6 kernels", "5×5 + 5×5"): ("1.7 hidden size", "1024"),
    ("1.7 hidden size", "100"): ("1.8 best model", "best model"),
    ("augmentation", "crop + flip + normalisation"): ("L2 regularisation", "none"),
    ("L2 regularisation", "1e-4"): ("momentum", "0.5"),
    ("momentum", "0.9"): ("learning rate", "0.01"),
    ("learning rate", "cyclic 0.01–0.04"): ("kernel of one block", "5×5, stride 2"),
    ("final", "final"): ("other activations and losses", "ReLU"),
}

TABLES = {table: runs for tables in SECTIONS.values() for table, runs in tables.items()}
SECTION_OF = {table: section for section, table, *_ in REPORT}


def described(run: Run) -> dict:
    """Every field of a run and every option of its model, defaults too, by name."""
    options = experiments.OPTIONS[run.model](**run.options).model_dump(mode="json")
    schedule = run.model_dump(mode="json", exclude_defaults=True).get("schedule", {"kind": "constant"})
    return {**run.model_dump(mode="json", exclude={"options"}), "schedule": schedule, **options}


# ------------------------------------------------------------------------------------------ rows


def test_every_row_of_the_report_is_declared_in_its_order():
    """Other rows may stand between them."""
    declared, known = [each[:3] for each in rows()], {each[:3] for each in REPORT}
    assert [each for each in declared if each in known] == [each[:3] for each in REPORT]


@pytest.mark.parametrize("section, table, row, accuracy, seconds", REPORT)
def test_every_row_has_the_reported_score(section, table, row, accuracy, seconds):
    found = reported(section, table, row)
    assert found[:3] == (accuracy, seconds, REPORTED_VALIDATION.get((section, table, row)))


def test_no_score_is_reported_but_those_copied_out():
    stated = [(section, table, row) for section, tables in SECTIONS.items() for table, rows in tables.items()
              for row in rows.reported]  # fmt: skip
    assert stated == [each[:3] for each in REPORT if any(each[3:])]


def test_a_table_knows_what_it_is_called_and_where_it_stands():
    numbered, plain = SECTIONS["1"]["1.2 batch norm"], SECTIONS["1.9"]["L2 regularisation"]
    assert (numbered.number, numbered.name, numbered.title) == ("1.2", "batch norm", "1.2 batch norm")
    assert (plain.number, plain.name, plain.title) == ("1.9", "L2 regularisation", "1.9 L2 regularisation")
    assert (numbered.anchor, plain.anchor) == ("tab-1-2-batch-norm", "tab-1-9-l2-regularisation")
    notebooks = {title: table.notebook for tables in SECTIONS.values() for title, table in tables.items()}
    assert notebooks["2.1 accuracy"] == "03_batch_norm_vgg" and notebooks["2.2 loss landscape"] == "04_loss_landscape"
    assert notebooks["final"] == "02_resnet9" and notebooks["MyNet's rate"] == ""


def test_no_two_tables_share_an_anchor():
    tables = [each for named in SECTIONS.values() for each in named.values()]
    assert len({each.anchor for each in tables}) == len(tables)


def test_a_row_that_the_report_does_not_have_is_reported_as_nothing():
    assert reported("1", "1.4 loss", "hinge") == reported("9", "x", "y") == Reported(None, None, None)


UNUSED = {  # fields of other sections, at their defaults
    "kappa": 1, "mu": 100, "lam": 0, "density": 1, "penalized": [], "precision": "auto", "probes": [], "mask": None,
    "validation": "held_out", "nesterov": False, "label_smoothing": 0, "average": 0, "flipped": False,
}  # fmt: skip


def test_the_base_of_section_1_is_the_reports():
    assert described(SECTIONS["1"]["1.2 batch norm"]["with"]) == {
        "data": "cifar10", "model": "MyNet", "loss": "nll", "optimizer": "sgd", "lr": 0.1, "momentum": 0.5,
        "weight_decay": 0, "schedule": {"kind": "constant"}, "epochs": 50, "batch_size": 64, "augment": [],
        "normalize": True, "images": None, "seed": 0, "start": None,
        **UNUSED,
        "kernels": [5, 5], "hidden": 1024, "dropout": 0, "activation": "relu", "batch_norm": True,
    }  # fmt: skip


def test_the_base_of_section_1_9_is_the_reports():
    assert described(SECTIONS["1.9"]["augmentation"]["none"]) == {
        "data": "cifar10", "model": "MyResNet9", "loss": "cross_entropy", "optimizer": "sgd", "lr": 0.01,
        "momentum": 0.5, "weight_decay": 0, "schedule": {"kind": "constant"}, "epochs": 50, "batch_size": 64,
        "augment": [], "normalize": True, "images": None, "seed": 0, "start": None,
        **UNUSED,
        "block_kernel": 5, "activation": "relu", "batch_norm": True,
    }  # fmt: skip


def test_the_bases_of_section_2_are_the_reports():
    common = {
        "data": "cifar10", "model": "VGG", "loss": "cross_entropy", "weight_decay": 0, "schedule": {"kind": "constant"},
        "epochs": 20, "batch_size": 64, "augment": [], "normalize": True, "images": None, "seed": 0, "start": None,
        **UNUSED, "batch_norm": True, "init": "kaiming",
    }  # fmt: skip
    sgd, adam = {"optimizer": "sgd", "momentum": 0.9}, {"optimizer": "adam", "momentum": 0}
    probes = {"precision": "float32", "probes": ["gradient_change", "smoothness", "along_gradient"]}
    assert described(TABLES["2.1 accuracy"]["VGG-A + BN"]) == {**common, **sgd, "lr": 0.01, "probes": ["surface"]}
    assert described(TABLES["2.1 accuracy with Adam"]["VGG-A + BN"]) == {**common, **adam, "lr": 1e-3}
    assert described(TABLES["2.2 loss landscape"]["VGG-A + BN, 2e-3"]) == {**common, **sgd, **probes, "lr": 2e-3}


def test_the_runs_of_section_3_are_the_reports():
    tables = SECTIONS["3.1"] | SECTIONS["3.2"]
    common = {
        "data": "mnist", "model": "LeNet", "loss": "cross_entropy", "weight_decay": 0, "schedule": {"kind": "constant"},
        "epochs": 30, "batch_size": 128, "augment": [], "normalize": False, "images": None, "seed": 0, **UNUSED,
        "start": experiments.pretrained.model_dump(mode="json"),
    }  # fmt: skip
    coupled = {**common, "kappa": 1, "mu": 20, "probes": ["path"]}
    steps = {"kind": "steps", "at": [2 / 3], "factor": 0.1}
    sgd = {**common, "optimizer": "sgd", "momentum": 0.9, "lr": 0.04}
    assert described(tables["optimizer"]["SGD, momentum 0.9"]) == sgd
    assert described(tables["optimizer"]["SGD"]) == {**sgd, "momentum": 0.5}
    slbi = {**coupled, "optimizer": "dessilbi", "momentum": 0.9, "lr": 0.1, "schedule": steps}
    assert described(tables["optimizer"]["DessiLBI, as stated"]) == slbi
    read = {
        "lr": 0.01,
        "momentum": 0.5,
        "schedule": {"kind": "exponential", "factor": 0.1 ** (1 / 20), "every": 1 / 30},
    }
    assert described(tables["optimizer"]["DessiLBI"]) == {**slbi, **read}
    warm = {**slbi, "schedule": {**steps, "warmup": 1 / 30}}
    assert described(tables["optimizer"]["DessiLBI, warm-up"]) == warm
    dropped = described(tables["optimizer"]["SGD, warm-up and drop"])
    assert dropped == {**sgd, "schedule": warm["schedule"]}
    assert described(tables["optimizer"]["DessiLBI, no momentum"]) == {**slbi, "momentum": 0}
    assert described(tables["optimizer"]["DessiLBI, authors' setting"]) == {**slbi, "start": None, "epochs": 60}
    adam = {**coupled, "optimizer": "dessilbi_adam", "momentum": 0, "lr": 3e-4}
    assert described(tables["MNIST"]["with Adam"]) == adam
    assert experiments.pretrained.epochs == 20 and experiments.pretrained.optimizer == "sgd"
    vgg = described(TABLES["2.1 accuracy"]["VGG-A + BN"])
    slbi = {**vgg, "optimizer": "dessilbi", "lr": 0.04, "kappa": 1, "mu": 500, "probes": ["path"]}
    assert described(tables["CIFAR-10"]["without"]) == slbi
    assert described(tables["CIFAR-10"]["with Adam"]) == {**slbi, "optimizer": "dessilbi_adam", "momentum": 0}


def test_the_final_model_of_section_1_9_is_the_reports():
    assert described(SECTIONS["1.9"]["final"]["final"]) == {
        "data": "cifar10", "model": "MyResNet9", "loss": "cross_entropy", "optimizer": "sgd", "lr": 0.01,
        "momentum": 0.9, "weight_decay": 4e-4, "schedule": {"kind": "cyclic", "high": 0.04}, "epochs": 50,
        "batch_size": 64, "augment": ["crop", "flip"], "normalize": True, "images": None, "seed": 0, "start": None,
        **UNUSED,
        "block_kernel": 3, "activation": "relu", "batch_norm": True,
    }  # fmt: skip


def test_the_best_model_of_section_1_is_the_base_with_dropout_and_fewer_hidden_units():
    base, best = (described(SECTIONS["1"][table][row]) for table, row in
                  (("1.2 batch norm", "with"), ("1.8 best model", "best model")))  # fmt: skip
    assert best == {**base, "dropout": 0.3, "hidden": 100}


def test_a_side_of_the_cycle_is_2_000_of_the_papers_31_250_steps():
    schedule = SECTIONS["1.9"]["learning rate"]["cyclic 0.01–0.04"].schedule
    assert (schedule.up, schedule.down) == (2_000 / 31_250, 2_000 / 31_250)


def test_the_sides_of_a_cycle_may_differ_in_length():
    """Up over a tenth of the run, down over three: at 0.35 it has come five sixths of the way down."""
    schedule = Cyclic(high=0.07, up=0.1, down=0.3)
    assert [schedule.rate(0.01, done) for done in (0.05, 0.1, 0.35, 0.4, 0.45)] == pytest.approx(
        [0.04, 0.07, 0.02, 0.01, 0.04]
    )


def test_cycles_are_those_of_torch():
    """Rate and momentum of each step equal torch's CyclicLR, with its momentum, and with triangles that shrink."""
    for mode, shrink in (("triangular", 1), ("triangular2", 0.5)):
        weight = torch.zeros(1, requires_grad=True)
        sgd = torch.optim.SGD([weight], lr=0.01, momentum=0.9)
        theirs = torch.optim.lr_scheduler.CyclicLR(sgd, 0.01, 0.04, step_size_up=4, step_size_down=6, mode=mode)
        schedule = Cyclic(high=0.04, up=0.1, down=0.15, shrink=shrink, low_momentum=0.8)
        ours = Run(model="MyResNet9", lr=0.01, momentum=0.9, schedule=schedule, epochs=1)
        for step in range(40):
            assert ours.rate(step / 40) == pytest.approx(sgd.param_groups[0]["lr"])
            assert ours.momentum_at(step / 40) == pytest.approx(sgd.param_groups[0]["momentum"])
            sgd.step()
            theirs.step()


def test_an_exponential_rate_is_that_of_torch():
    """StepLR of one epoch in fifty, whose boundaries no rounding moves."""
    sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    theirs = torch.optim.lr_scheduler.StepLR(sgd, step_size=1, gamma=0.7)
    schedule = Exponential(factor=0.7, every=1 / 50)
    for epoch in range(50):
        for step in (0, 1, 624):
            assert schedule.rate(0.1, (625 * epoch + step) / 31_250) == pytest.approx(sgd.param_groups[0]["lr"])
        sgd.step()
        theirs.step()


def test_a_rate_that_moves_leaves_the_momentum_alone_unless_told():
    assert Cyclic(high=0.04).momentum(0.9, 0.05) == Exponential(factor=0.7, every=0.1).momentum(0.9, 0.5) == 0.9


# ------------------------------------------------------------------------------------------ readings

READINGS = {name: each for name, each in vars(readings).items() if isinstance(each, readings.Reading)}


@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS)
def test_a_reading_says_what_the_report_says_and_chooses_a_candidate(reading):
    assert reading.chosen in reading.candidates and next(iter(reading.candidates)) == readings.AS_STATED
    assert len(reading.says) > 20 and len(reading.candidates) > 1


def test_another_candidate_is_chosen_in_one_line():
    run = experiments.mnist_stated
    assert readings.sparse_rate(run) == readings.sparse_rate.by(readings.sparse_rate.chosen, run)
    assert readings.sparse_rate._replace(chosen=readings.AS_STATED)(run) == run


def test_a_candidate_is_the_same_run_whatever_a_row_is_read_by():
    by, stated = readings.sparse_rate.by, experiments.mnist_stated
    for name in readings.sparse_rate.candidates:
        assert by(name, by("counted on, not rounded", stated)) == by(name, stated)
    adam = experiments.SECTION_1["1.5 optimizer"]["Adam"]
    assert readings.basic_rate.by("0.1, momentum 0.9", adam).momentum == 0  # which Adam has not


def test_a_candidate_stands_beside_the_reports_numbers_of_its_row():
    table = experiments.SECTION_READINGS["MyNet's rate"]
    assert table.reported == {} and table.aims["0.01: best model"].validation_loss == 0.673
    assert table["0.01: tanh"] == replace(experiments.SECTION_1["1.6 activation"]["tanh"], lr=0.01)


def test_a_chosen_candidate_is_repeated_and_one_that_is_not_runs_once():
    by = readings.sparse_rate.by
    assert len(replicas(by(readings.sparse_rate.chosen, experiments.mnist_stated), "paper")) == 3
    assert len(replicas(by("counted on from pretraining", experiments.mnist_stated), "paper")) == 1


@pytest.mark.parametrize("table", CHANGES)
def test_a_table_changes_one_thing(table):
    assert set(TABLES[table]) >= set(CHANGES[table])  # a row that the report doesn't have may change what it likes
    base = next(described(TABLES[table][row]) for row, changes in CHANGES[table].items() if not changes)
    for row, changes in CHANGES[table].items():
        assert described(TABLES[table][row]) == {**base, **changes}


@pytest.mark.parametrize("given, taken", CHAIN.items(), ids=str)
def test_a_table_hands_its_winner_on(given, taken):
    assert TABLES[given[0]][given[1]] == TABLES[taken[0]][taken[1]]


@pytest.mark.parametrize("table, winner", [each for each in CHAIN if each[0] != "final"])
def test_the_winner_handed_on_is_the_reports(table, winner):
    section = SECTION_OF[table]
    best = max(scores.accuracy for scores in SECTIONS[section][table].reported.values())
    assert reported(section, table, winner).accuracy == best


def test_the_final_model_is_the_last_winner_with_a_stronger_l2():
    winner = TABLES["kernel of one block"]["3×3, stride 1"]
    assert winner.weight_decay == 1e-4
    assert TABLES["final"]["final"] == replace(winner, weight_decay=4e-4)


def test_what_is_drawn_or_kept_or_first_is_declared():
    declared = {row.run for row in rows()}
    for chosen in (experiments.HEADLINE, experiments.DRAWN, experiments.KEPT):
        assert chosen and chosen <= declared


# ------------------------------------------------------------------------------------------ digests

LENET = Run(data="mnist", model="LeNet", lr=0.1, epochs=30)
FOLLOWED = replace(LENET, optimizer="dessilbi", probes=("path",))


@pytest.mark.parametrize("run, name", [
    (TABLES["1.2 batch norm"]["with"], "MyNet-d24a3c4460"),
    (TABLES["1.8 best model"]["best model"], "MyNet-f6aa50cfad"),
    (TABLES["learning rate"]["cyclic 0.01–0.04"], "MyResNet9-f6e4dac848"),
    (TABLES["learning rate"]["0.04, then 0.01"], "MyResNet9-1137e52547"),
    (TABLES["final"]["final"], "MyResNet9-3cf899e80a"),
    (at(TABLES["final"]["final"], "laptop"), "MyResNet9-a2e33d24dd"),
    (at(TABLES["1.2 batch norm"]["with"], "smoke"), "MyNet-28bcb83ca8"),
    (replace(LENET, start=LENET), "LeNet-8b9e991d6c"),
])  # fmt: skip
def test_names_last(run, name):
    # A change here orphans every record there is.
    assert run.name == name


class Wider(Run):
    """A run as it may be described one day."""

    gradient_clip: float = 0.0


@pytest.mark.parametrize("run", [row.run for row in rows()], ids=lambda run: run.name)
def test_a_new_field_with_a_default_leaves_digests_as_they_are(run):
    fields = {name: getattr(run, name) for name in Run.model_fields}
    assert Wider(**fields).digest == run.digest
    assert Wider(**fields, gradient_clip=0.1).digest != run.digest


def test_defaults_said_aloud_leave_the_digest_as_it_is():
    short = Run(model="MyNet", lr=1, epochs=50)
    options = {"hidden": 1024, "kernels": [5, 5], "dropout": 0, "activation": "relu", "batch_norm": True}
    long = Run(model="MyNet", lr=1.0, epochs=50, options=options, schedule=Constant(), seed=0, momentum=0, images=None)
    assert long == short
    assert long.digest == short.digest
    assert hash(long) == hash(short)


OTHER = {  # of each field a value that no run here has
    "data": "cifar10", "model": "VGG", "options": {"hidden": 99}, "loss": "cross_entropy", "optimizer": "adam",
    "lr": 0.11, "momentum": 0.4, "weight_decay": 1e-9, "schedule": Cyclic(high=0.2), "epochs": 51, "batch_size": 63,
    "augment": ("flip",), "normalize": False, "validation": "test", "images": 49_999, "seed": 1, "start": LENET,
    "kappa": 5, "mu": 20, "lam": 0.1, "density": 0.5, "penalized": ("conv3",), "precision": "float32",
    "label_smoothing": 0.1, "nesterov": True, "average": 0.99, "flipped": True,
    "probes": ("path",), "mask": Mask(of=FOLLOWED, epoch=3),
}  # fmt: skip


@pytest.mark.parametrize("field", Run.model_fields)
def test_another_value_of_any_field_is_another_digest(field):
    # Nothing here stands in the way of another model, optimizer or loss.
    loss = "nll" if field == "loss" else "cross_entropy"
    optimizer = {"lam": "linbreg", "density": "linbreg"}.get(
        field, "sgd" if field in ("momentum", "nesterov", "optimizer") else "dessilbi"
    )
    momentum = 0.9 if field == "nesterov" else 0
    run = Run(data="mnist", model="MyNet", loss=loss, optimizer=optimizer, momentum=momentum, lr=0.1, epochs=50)
    changed = Run(**{**{name: getattr(run, name) for name in Run.model_fields}, field: OTHER[field]})
    assert getattr(changed, field) != getattr(run, field)
    assert changed.digest != run.digest


@pytest.mark.parametrize("model", experiments.OPTIONS)
def test_another_value_of_any_option_is_another_digest(model):
    other = {"kernels": (5, 4), "hidden": 1023, "dropout": 0.01, "activation": "tanh", "batch_norm": False,
             "block_kernel": 5, "init": "default"}  # fmt: skip
    run = Run(model=model, lr=0.1, epochs=50)
    names = experiments.OPTIONS[model].model_fields
    assert len({run.digest, *(replace(run, **{name: other[name]}).digest for name in names)}) == len(names) + 1


numbers = st.floats(1e-6, 10)
shares = st.floats(0, 0.99)
schedules = st.one_of(
    st.just(Constant()),
    st.builds(Cyclic, high=numbers, up=st.sampled_from([0.064, 0.1, 1]), down=st.sampled_from([0.064, 0.2])),
    st.builds(Steps, at=st.lists(shares, max_size=3).map(tuple), factor=numbers),
    st.builds(Cosine, warmup=shares),
)
some_options = st.fixed_dictionaries({}, optional={
    "kernels": st.tuples(st.integers(1, 10), st.integers(1, 10)), "hidden": st.integers(1, 2000), "dropout": shares,
    "activation": st.sampled_from(["relu", "tanh"]), "batch_norm": st.booleans(),
})  # fmt: skip
some_runs = st.builds(
    Run, model=st.just("MyNet"), options=some_options, loss=st.sampled_from(["nll", "cross_entropy"]), lr=numbers,
    momentum=shares, weight_decay=st.floats(0, 1), schedule=schedules, epochs=st.integers(1, 99),
    batch_size=st.integers(1, 999), augment=st.sampled_from([(), ("crop",), ("flip",), ("crop", "flip")]),
    normalize=st.booleans(), images=st.none() | st.integers(1, 999), seed=st.integers(0, 99),
    start=st.none() | st.just(LENET) | st.just(replace(LENET, seed=1)),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(some_runs, some_runs)
def test_digests_are_equal_exactly_where_runs_are(one, other):
    assert (one.digest == other.digest) == (one == other)
    assert one.digest == replace(one).digest


@settings(max_examples=60, deadline=None)
@given(some_runs)
def test_a_run_comes_back_from_json_and_from_pickle(run):
    for again in (
        Run(**run.model_dump(mode="json")),
        Run(**run.differing()),
        Run.model_validate_json(run.model_dump_json()),
        pickle.loads(pickle.dumps(run)),
    ):
        assert again == run
        assert again.name == run.name


def test_a_digest_is_ten_hexadecimal_digits():
    assert len({row.run.digest for row in rows()}) == len({row.run for row in rows()})
    for row in rows():
        assert len(row.run.digest) == 10 and int(row.run.digest, 16) >= 0
        assert row.run.name == f"{row.run.model}-{row.run.digest}"


# ------------------------------------------------------------------------------------------ replace


def test_replace_changes_fields_and_options_by_their_names():
    run = replace(experiments.base, lr=0.2, hidden=100)
    assert (run.lr, run.options) == (0.2, {"hidden": 100})
    assert replace(run, dropout=0.3).options == {"hidden": 100, "dropout": 0.3}
    assert replace(run, hidden=1024) == replace(experiments.base, lr=0.2)
    assert experiments.base.lr == 0.1 and experiments.base.options == {}


def test_replace_takes_options_whole_and_by_name_at_once():
    run = replace(experiments.best, options={"dropout": 0.1}, activation="tanh")
    assert run.options == {"dropout": 0.1, "activation": "tanh"}


def test_replacing_the_model_drops_the_options_of_the_other():
    run = replace(experiments.best, model="VGG", loss="cross_entropy", init="default")
    assert run.options == {"init": "default"}


# ------------------------------------------------------------------------------------------ what is not allowed


def allowed(**changes) -> Run:
    return Run(**{"model": "MyNet", "lr": 0.1, "epochs": 5, **changes})


def told_in_one_line(call, *words: str, error=ValueError) -> None:
    with pytest.raises(error) as told:
        call()
    message = str(told.value)
    assert "\n" not in message and len(message) < 400
    for word in words:
        assert word in message, message


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize("field, value", [
    *(("lr", value) for value in (0, -1, -1e-9, NAN, INFINITE, -INFINITE, "fast", None, [1])),
    *(("weight_decay", value) for value in (-1, -1e-9, NAN, INFINITE, -INFINITE, "fast", None, [1])),
    *(("momentum", value) for value in (-0.1, 1, 1.5, NAN, INFINITE, "a\nb")),
    *((name, value) for name in ("epochs", "batch_size", "images") for value in (0, -1, 2.5, NAN, INFINITE, "ten")),
    *((name, value) for name in ("label_smoothing", "average") for value in (-0.1, 1, NAN, "some")),
    *(("seed", value) for value in (-1, 0.5, NAN)),
    *(("data", value) for value in ("cifar100", "", None, 3)),
    *(("model", value) for value in ("MyNut", "mynet", "", None, 3, ["MyNet"])),
    *(("loss", value) for value in ("mse", "NLL", None)),
    *(("optimizer", value) for value in ("adagrad", "SGD", None)),
    *(("augment", value) for value in ("crop", 3, None)),
    *(("schedule", value) for value in ("cyclic", {"kind": "sine"}, {"high": 3}, None, 3)),
    *(("options", value) for value in (5, None, "hidden", [("hidden", 3)])),
    *(("start", value) for value in (5, "MyNet-d24a3c4460")),
    ("normalize", "perhaps"),
])  # fmt: skip
def test_a_value_that_is_not_allowed_is_told_in_one_line(field, value):
    told_in_one_line(lambda: allowed(**{field: value}), field, repr(value)[:8])


@pytest.mark.parametrize("option, value", [
    *(("hidden", value) for value in (0, -5, 1.5, NAN, INFINITE, "wide")),
    *(("dropout", value) for value in (-0.1, 1, 2, NAN, INFINITE)),
    *(("kernels", value) for value in ((5, 0), (5, -3), (5, 11), 5)),
    ("activation", "gelu"),
    ("batch_norm", "perhaps"),
])  # fmt: skip
def test_an_options_value_that_is_not_allowed_is_told_in_one_line(option, value):
    told_in_one_line(lambda: allowed(options={option: value}), option)
    told_in_one_line(lambda: replace(allowed(), **{option: value}), option)


@pytest.mark.parametrize("call, words", [
    (lambda: allowed(options={"hiden": 3}), ("'hiden'", "MyNet", "hidden")),
    (lambda: allowed(options={3: 3}), ("'3'", "MyNet")),
    (lambda: replace(allowed(), block_kernel=3), ("'block_kernel'", "MyNet")),
    (lambda: allowed(model="LeNet", options={"hidden": 3}), ("'hidden'", "LeNet", "no options")),
    (lambda: allowed(augment=("crop", "crip")), ("augment", "'crip'", "'flip'")),
    (lambda: allowed(augment=("shift", "crop")), ("crop and shift", "one of them")),
    (lambda: allowed(epoch=3), ("'epoch'", "Run", "epochs")),
    (lambda: Run(model="MyNet", epochs=3), ("lr",)),
    (lambda: Run(lr=1, epochs=3), ("model",)),
    (lambda: allowed(start={"model": "LeNet"}), ("Run needs lr",)),
    (lambda: allowed(model="MyResNet9", options={"block_kernel": 4}), ("block_kernel", "4", "3", "5")),
    (lambda: allowed(model="VGG", options={"init": "zeros"}), ("init", "'zeros'", "xavier")),
    (lambda: allowed(optimizer="adam", momentum=0.5), ("momentum 0.5", "adam")),
    (lambda: allowed(model="VGG", loss="nll"), ("nll", "VGG")),
    (lambda: allowed(nesterov=True), ("nesterov", "momentum")),
    (lambda: allowed(optimizer="adam", nesterov=True), ("nesterov True", "belongs to sgd", "adam")),
    (lambda: allowed(loss="nll", label_smoothing=0.1), ("label_smoothing", "cross_entropy", "nll")),
    (lambda: Cyclic(high=-1), ("high", "-1")),
    (lambda: Cyclic(high=1, low_momentum=1), ("low_momentum", "1")),
    (lambda: Cyclic(high=1, shrink=0), ("shrink", "0")),
    (lambda: Exponential(factor=1.1, every=0.1), ("factor", "1.1")),
    (lambda: Run(model="MyNet", optimizer="adam", lr=1, epochs=1, schedule=Cyclic(high=2, low_momentum=0.8)),
     ("low_momentum", "belongs to sgd")),
    (lambda: Run(model="MyNet", lr=1, epochs=1, normalize="half"), ("normalize", "half")),
    (lambda: Cyclic(high=NAN), ("high", "nan")),
    (lambda: Cyclic(high=1, up=0), ("up", "0")),
    (lambda: Cyclic(high=1, up=1.1), ("up", "1.1")),
    (lambda: Cyclic(), ("Cyclic needs high",)),
    (lambda: Cyclic(high=1, kind="steps"), ("kind", "'steps'")),
    (lambda: Steps(at=(0.5,)), ("Steps needs factor",)),
    (lambda: Steps(at=(1.5,), factor=0.1), ("at", "1.5")),
    (lambda: Steps(at=(0.5,), factor=-1), ("factor", "-1")),
    (lambda: allowed(schedule={"kind": "cyclic", "high": -1}), ("high", "-1")),
])  # fmt: skip
def test_what_does_not_fit_together_is_told_in_one_line(call, words):
    told_in_one_line(call, *words)


def test_a_run_does_not_change():
    for field in Run.model_fields:
        with pytest.raises(ValueError):
            setattr(experiments.base, field, OTHER[field])
    with pytest.raises(TypeError):
        Run("MyNet")


# ------------------------------------------------------------------------------------------ names


def test_find_takes_a_name_or_the_only_one_that_contains_it():
    names = ["1.6 activation", "1.6 kernels", "kernel of one block"]
    assert find("table", "1.6 kernels", names) == "1.6 kernels"
    assert find("table", "KERNELS", names) == "1.6 kernels"
    assert find("table", "activ", names) == "1.6 activation"


@pytest.mark.parametrize("call, words", [
    (lambda: rows(section="2.7"), ("section '2.7'", "1.9")),
    (lambda: rows(table="kernel"), ("table 'kernel'", "'1.6 kernels'", "'1.9 kernel of one block'")),
    (lambda: rows(table="drpout"), ("table 'drpout'", "'1.3 dropout after each conv'")),
    (lambda: rows(table="momentun"), ("table 'momentun'", "'1.9 momentum'")),
    (lambda: rows(table="optimizer"), ("table 'optimizer'", "'1.5 optimizer'", "'3.1 optimizer'")),
    (lambda: rows(section="1", table="final"), ("table 'final'",)),
    (lambda: rows(table="1.3 dropout", row="0.4"), ("row '0.4'", "'0.5'", "'0.3'")),
    (lambda: rows(table="1.4 loss", row=""), ("row ''", "'NLL'")),
    (lambda: at(experiments.base, "papr"), ("budget 'papr'", "'paper'")),
    (lambda: at(experiments.base, ""), ("budget ''", "'paper'", "'laptop'", "'smoke'")),
])  # fmt: skip
def test_an_unknown_name_is_told_with_the_nearest(call, words):
    told_in_one_line(call, *words, error=UnknownName)


@pytest.mark.parametrize("call, far", [
    (lambda: rows(table="drpout"), "'1.4 loss'"),
    (lambda: rows(table="1.3 dropout", row="0.4"), "'0'"),
    (lambda: at(experiments.base, "papr"), "'smoke'"),
])  # fmt: skip
def test_of_many_names_only_the_nearest_are_told(call, far):
    with pytest.raises(UnknownName) as told:
        call()
    assert far not in str(told.value)


def test_rows_are_chosen_by_section_table_and_label():
    assert {row.section for row in rows(section="1")} == {"1"}  # and not 1.9
    assert [row.label for row in rows(section="1", table="1.4 loss")] == ["NLL", "cross-entropy"]
    assert [row.run for row in rows(table="momentum", row="0.9")] == [experiments.moving]
    assert rows(table="1.9 momentum") == rows(table="momentum")  # as the README has it
    assert {row.section for row in rows(table="3.1 optimizer")} == {"3.1"}
    assert len(rows(row="tanh")) == 2


# ------------------------------------------------------------------------------------------ budgets


@pytest.mark.parametrize("model, laptop", [("MyNet", 10), ("MyResNet9", 10), ("VGG", 5), ("LeNet", 50)])
def test_budgets_change_epochs_and_nothing_else(model, laptop):
    run = Run(model=model, lr=0.1, epochs=50, momentum=0.9)
    assert at(run, "paper") == run
    assert at(run, "laptop") == replace(run, epochs=laptop)
    assert at(run, "smoke") == replace(run, epochs=2, images=128)


def test_a_run_shorter_than_the_budget_stays_as_it_is():
    run = Run(model="VGG", lr=0.1, epochs=3)
    assert at(run, "laptop") == run


def test_what_a_run_starts_from_has_the_same_budget():
    start = Run(model="MyNet", lr=0.1, epochs=50)
    run = Run(model="MyNet", lr=0.2, epochs=50, start=start)
    for budget in BUDGETS:
        assert at(run, budget).start == at(start, budget)


def test_a_budget_may_be_cut_short_like_any_name():
    assert at(experiments.base, "lap") == at(experiments.base, "laptop")


def test_budgets_tell_runs_apart_for_every_row():
    for row in rows():
        # MNIST is short enough to be trained in full everywhere.
        assert len({at(row.run, budget).digest for budget in BUDGETS}) == (2 if row.run.data == "mnist" else 3)
        assert at(at(row.run, "laptop"), "laptop") == at(row.run, "laptop")


def test_runs_whose_gradients_are_measured_are_shorter_at_laptop():
    probed, plain = TABLES["2.2 loss landscape"]["VGG-A, 1e-3"], TABLES["2.1 accuracy"]["VGG-A"]
    assert (at(probed, "laptop").epochs, at(plain, "laptop").epochs) == (3, 5)


def test_what_a_run_needs_is_of_its_budget_and_seed():
    mask = Mask(of=replace(FOLLOWED, epochs=9), epoch=5)
    run = replace(LENET, start=replace(LENET, epochs=7), mask=mask)
    short = experiments.reseed(at(run, "smoke"), 4)
    assert [needed.epochs for needed in short.needs] == [experiments.SMOKE_EPOCHS] * 2
    assert [needed.seed for needed in short.needs] == [4, 4] and short.seed == 4
    assert short.mask.epoch == experiments.SMOKE_EPOCHS  # a mask can't be of a later epoch than the last
    assert at(run, "laptop").mask == mask


def test_replicas_are_seeds_of_one_run(monkeypatch):
    run = experiments.dropped
    monkeypatch.setitem(experiments.SEEDS, "laptop", {})
    assert experiments.replicas(run, "laptop") == [at(run, "laptop")]
    monkeypatch.setitem(experiments.SEEDS, "laptop", {run: 3})
    assert experiments.replicas(run, "laptop") == [replace(at(run, "laptop"), seed=seed) for seed in range(3)]
    monkeypatch.setitem(experiments.SEEDS, "paper", {})
    assert experiments.replicas(run, "paper") == [run]


# ------------------------------------------------------------------------------------------ order


def ordered(budgets) -> list[tuple[str, Run]]:
    jobs = {(budget, at(row.run, budget)) for budget in budgets for row in rows()}
    return sorted(jobs, key=lambda job: experiments.order(job[1], job[0]))


def test_laptop_comes_before_paper():
    budgets = [budget for budget, _ in ordered(("paper", "laptop", "smoke"))]
    assert budgets == sorted(budgets, key=["smoke", "laptop", "paper"].index)


@pytest.mark.parametrize("run, epochs, time", [
    (experiments.best, 40, "18 minutes"),
    (experiments.final, 50, "2.9 hours"),
    (experiments.replace(experiments.final, images=128), 2, "a minute"),
    (experiments.replace(experiments.vgg, precision="float32"), 9, "60 minutes"),
    (TABLES["2.2 loss landscape"]["VGG-A, 1e-3"], 20, "3.0 hours"),
])  # fmt: skip
def test_what_making_runs_means(run, epochs, time):
    run = experiments.replace(run, epochs=epochs)
    assert experiments.outlook([run]) == f"1 run to make, about {time} of one core with bfloat16"
    assert experiments.outlook([run] * 3).startswith("3 runs to make, about ")


def test_short_runs_come_before_long_ones():
    runs = [run for _, run in ordered(["laptop"])]
    costs = [experiments.estimated_seconds(run) for run in runs]
    assert costs == sorted(costs) and runs[0].model == "LeNet" and runs[-1].model == "MyResNet9"
    epochs = sorted(
        [replace(experiments.base, epochs=n) for n in (50, 3, 10)], key=lambda r: experiments.order(r, "laptop")
    )
    assert [run.epochs for run in epochs] == [3, 10, 50]


def test_first_seeds_come_before_others_even_of_shorter_runs():
    first, second = at(experiments.final, "laptop"), replace(at(experiments.base, "laptop"), seed=1)
    assert experiments.order(first, "laptop") < experiments.order(second, "laptop")


def test_the_headline_comes_first_on_paper():
    runs = [run for _, run in ordered(["paper"])]
    headline = {TABLES["1.2 batch norm"]["with"], TABLES["1.2 batch norm"]["without"],
                TABLES["1.8 best model"]["best model"], TABLES["final"]["final"]}  # fmt: skip
    assert headline <= set(runs[: len(experiments.HEADLINE)]) == experiments.HEADLINE
    assert runs[len(experiments.HEADLINE) - 1] == TABLES["final"]["final"]  # of these the longest
    rest = [experiments.estimated_seconds(run) for run in runs[len(experiments.HEADLINE) :]]
    assert rest == sorted(rest)


def test_weights_are_kept_of_all_that_others_start_from_declared_or_not(monkeypatch):
    first = replace(LENET, lr=0.2)
    second = replace(first, lr=0.02, start=first)
    monkeypatch.setitem(SECTIONS["3.1"], "small", {"third": replace(second, lr=0.002, start=second)})
    assert experiments.keeps_weights(second) and experiments.keeps_weights(first)


def test_what_figures_show_is_kept_in_every_budget_and_for_every_seed():
    for budget in BUDGETS:
        run, pruned = at(experiments.best, budget), at(experiments.longest, budget)
        assert experiments.is_drawn(run) and experiments.is_drawn(replace(run, seed=3))
        assert experiments.keeps_weights(pruned) and experiments.keeps_weights(experiments.reseed(pruned, 3))
        assert not experiments.is_drawn(at(experiments.base, budget))
        assert not experiments.keeps_weights(at(experiments.base, budget))
