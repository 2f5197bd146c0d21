"""Settings as a table: what runs have in common, and in what they differ."""

import pytest

from helpers.experiments import Cosine, Cyclic, Exponential, Run, Steps, base, replace
from helpers.show.settings import differences, settings

SGD = Run(model="LeNet", data="mnist", lr=0.1, momentum=0.5, epochs=30)


def of(*runs):
    return dict(settings(runs).frame.values.tolist())


def test_one_run_has_one_value_a_setting():
    found = of(base)
    assert (found["data"], found["network"], found["learning rate"], found["epochs"]) == (
        "CIFAR-10",
        "MyNet",
        "0.1",
        "50",
    )
    assert found["momentum"] == "0.5" and found["loss"] == "negative log-likelihood"
    assert "weight decay" not in found and "κ" not in found and "precision" not in found


def test_what_differs_has_all_its_values():
    found = of(base, replace(base, dropout=0.3), replace(base, lr=0.01))
    assert (found["learning rate"], found["network options"]) == ("0.1 · 0.01", "default · dropout 0.3")


def test_a_setting_is_that_of_the_optimizers_that_have_it():
    adam, ours = replace(SGD, optimizer="adam", momentum=0), replace(SGD, optimizer="dessilbi", mu=20, momentum=0.9)
    found = of(SGD, adam, ours)
    assert (found["momentum"], found["ν"], found["optimizer"]) == ("0.5 · 0.9", "20", "SGD · Adam · DessiLBI")


@pytest.mark.parametrize("schedule, words", [
    (Steps(at=(2 / 3,), factor=0.1, warmup=1 / 30), "× 0.1 after 20 epochs, 1 epoch of warm-up"),
    (Steps(at=(), factor=1), "constant"),
    (Cyclic(high=0.04), "cyclic up to 0.04"),
    (Exponential(factor=0.7, every=1 / 15), "× 0.7 after every 2 epochs"),
    (Cosine(warmup=0.1), "cosine, 3 epochs of warm-up"),
    (Exponential(factor=0.7, every=1 / 30), "× 0.7 after every epoch"),
])  # fmt: skip
def test_a_schedule_is_told_in_epochs(schedule, words):
    assert of(replace(SGD, schedule=schedule))["schedule"] == words


def test_a_run_that_goes_on_from_another_says_so():
    assert of(SGD, replace(SGD, start=SGD))["starts from"] == "new weights · trained weights"


def test_what_differs_stands_beside_each_row_and_the_rest_in_the_caption():
    adam = replace(SGD, optimizer="dessilbi_adam", momentum=0, lr=3e-4, mu=20)
    shown = differences({"SGD": SGD, "with Adam": adam})
    assert list(shown.frame) == ["", "optimizer", "learning rate", "momentum", "ν"]
    assert shown.frame.values.tolist() == [["SGD", "SGD", "0.1", "0.5", "–"],
                                           ["with Adam", "DessiLBI with Adam", "0.0003", "–", "20"]]  # fmt: skip
    assert "data MNIST" in shown.caption and "epochs 30" in shown.caption and "learning rate" not in shown.caption


def test_a_setting_that_all_have_alike_stands_in_no_column():
    assert list(differences({"a": SGD, "b": replace(SGD, epochs=60)}).frame) == ["", "epochs"]


def test_without_names_all_layers_are_penalised():
    ours = replace(SGD, optimizer="dessilbi", mu=20)
    shown = differences({"all": ours, "one": replace(ours, penalized=("features.conv3",))})
    assert shown.frame["penalised layers"].tolist() == ["all", "features.conv3"]
