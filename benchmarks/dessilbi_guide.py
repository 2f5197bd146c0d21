"""The experiments of docs/dessilbi.md, on MNIST and CIFAR-10: `python -m benchmarks.dessilbi_guide [--only NAME]`. A
minute on one idle core; each run is kept in dessilbi_guide.json as soon as it is done, and not made again."""

import argparse
import functools
import itertools
import json
import math
import time
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from helpers import data, dessilbi, experiments, models, pruning, records
from helpers.publish.readme import filled
from helpers.runner import provenance
from helpers.show.grid import Grid
from helpers.show.text import DASH

ROOT = Path(__file__).resolve().parents[1]
KEPT, PAGE = ROOT / "benchmarks" / "dessilbi_guide.json", ROOT / "docs" / "dessilbi.md"
LEARNED = {"LeNet": 0.5, "MyNet": 0.2}  # accuracy from which a run counts as having learned; chance is 0.1
STARTS, SEEDS = ("scratch", "pretrained"), range(10)


@dataclass(frozen=True)
class Setting:
    """A run: what the optimizer is given, the network, what is penalised (None: all that can be), steps and seed."""

    kappa: float = 1
    mu: float = 2
    rate: float = 0.04  # κα: the rate of the weights
    adam: bool = False
    weight_decay: float = 0
    model: str = "small"
    only: str | None = "0"  # the small network's convolution
    steps: int = 400  # of 32 images
    warmup: int = 0  # steps over which the rate rises
    cosine: bool = False
    precision: str = "float32"  # or "autocast": forward and backward in bfloat16; "bfloat16": the weights as well
    start: str = "scratch"  # or "pretrained"
    seed: int = 0


base = Setting()
snippet = Setting(kappa=1, mu=20, rate=0.02, only=None, steps=200, model="LeNet")
old = replace(snippet, rate=0.1)
mynet = replace(snippet, steps=40, model="MyNet")
strong = replace(snippet, kappa=4, mu=0.5)


EXPERIMENTS = {
    "kappa": {f"κ {kappa}, ν {2 / kappa:g}": replace(base, kappa=kappa, mu=2 / kappa) for kappa in (0.25, 1, 4)},
    "nu": {f"ν {mu}": replace(base, mu=mu) for mu in (1, 2, 4, 8)},
    "dead": {
        "κ 4, ν 0.5": strong,
        "ν 20": replace(strong, mu=20),
        "conv3 alone": replace(strong, only="features.conv3"),
    },
    "decay": {f"{decay:g}": replace(base, weight_decay=decay) for decay in (0, 5e-4, 0.5)},
    "schedule": {"constant": base, "cosine": replace(base, cosine=True)},
    "precision": {
        "float32": base,
        "autocast to bfloat16": replace(base, precision="autocast"),
        "weights in bfloat16": replace(base, precision="bfloat16"),
    },
    "adam": {f"ν {mu:g}": replace(base, adam=True, rate=1e-3, mu=mu) for mu in (2, 0.1)},
}
LEARNS = {  # (network, setting in words) → setting: in how many of ten seeds does it learn?
    ("LeNet", "α 0.02"): snippet,
    ("MyNet", "α 0.02"): mynet,
    ("LeNet", "α 0.1"): old,
    ("LeNet", "α 0.1, 100 steps of warm-up"): replace(old, warmup=100),
}


def runs() -> list[Setting]:
    """All that the guide needs, each once."""
    shown = [setting for rows in EXPERIMENTS.values() for setting in rows.values()]
    starts = [
        replace(setting, seed=seed, start=start) for setting in LEARNS.values() for start in STARTS for seed in SEEDS
    ]
    return list(dict.fromkeys([*shown, *starts]))


def key(setting: Setting) -> str:
    """What a run is called in the file: the fields that are not as in `base`."""
    return (
        ", ".join(f"{name}={value}" for name, value in asdict(setting).items() if value != getattr(base, name))
        or "base"
    )


# ------------------------------------------------------------------------------------------ one run


def measure(setting: Setting) -> dict:
    """Trains a run and gives its accuracy and, where one layer is penalised, what became of that layer's filters."""
    dataset = loaded(setting.model)
    model = built(setting)
    if setting.start == "pretrained":
        model.load_state_dict(pretrained(setting.model, setting.seed))
    optimizer = made(setting, model)
    watch = Watch(optimizer, model[0].weight, setting) if setting.model == "small" else None
    train(model, optimizer, setting, dataset, watch)
    found = {"accuracy": accuracy(model, dataset, setting), "norm": largest_norm(model)}
    supports = pruning.support(optimizer)
    found["support"] = {
        name.removesuffix(".weight"): int(kept.sum()) for name, kept in supports.items() if kept.ndim == 1
    }
    return {**found, **(watch.found() if watch else {})}


@functools.cache
def loaded(model: str) -> data.Dataset:
    """CIFAR-10 for MyNet, MNIST for LeNet; for the small network MNIST at half its size."""
    dataset = data.load("cifar10" if model == "MyNet" else "mnist")
    if model != "small":
        return dataset
    halves = {name: data.Split(half(getattr(dataset, name).images[:20_000]), getattr(dataset, name).labels[:20_000])
              for name in ("train", "validation")}  # fmt: skip
    return replace(dataset, **halves)


def half(images: torch.Tensor) -> torch.Tensor:
    """uint8 images (N, C, H, W) → (N, C, H/2, W/2), each number the mean of four."""
    return nn.functional.avg_pool2d(images.float(), 2).to(torch.uint8)


def small() -> nn.Module:
    """32 filters of 5×5 on images of 14×14, then a linear layer: one run takes a second or less."""
    return nn.Sequential(nn.Conv2d(1, 32, 5, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 5 * 5, 10))


def built(setting: Setting) -> nn.Module:
    torch.manual_seed(setting.seed)
    model = small() if setting.model == "small" else models.build(setting.model)
    return model.to(torch.bfloat16 if setting.precision == "bfloat16" else torch.float32)


def made(setting: Setting, model: nn.Module) -> torch.optim.Optimizer:
    kind = dessilbi.DessiLBIAdam if setting.adam else dessilbi.DessiLBI
    groups, options = dessilbi.param_groups(model, setting.only), dict(kappa=setting.kappa, mu=setting.mu)
    with warnings.catch_warnings(action="ignore"):  # of weights of 16 bits
        return kind(groups, setting.rate / setting.kappa, weight_decay=setting.weight_decay, **options)


@functools.cache
def pretrained(model: str, seed: int) -> dict[str, torch.Tensor]:
    """LeNet: the report's own weights, of which there are three; MyNet: after as many steps of SGD as will follow."""
    if model == "LeNet":
        store = records.Store()
        arrays = store.weights(store.read(experiments.replace(experiments.pretrained, seed=seed % 3)))
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
    setting = replace(mynet, seed=seed)
    network = built(setting)
    train(network, torch.optim.SGD(network.parameters(), 0.02, momentum=0.9), setting, loaded("MyNet"))
    return network.state_dict()


def train(model: nn.Module, optimizer, setting: Setting, dataset: data.Dataset, watch=lambda step: None) -> None:
    scaling = dataset.scaling(setting.model == "MyNet")
    batches = data.Batches(dataset.train, 32, setting.seed, (), *scaling)
    loss_of = nn.functional.nll_loss if setting.model == "MyNet" else nn.functional.cross_entropy
    rate = optimizer.param_groups[0]["lr"]
    for step in range(setting.steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * share(setting, step)
        images, labels = batches(step)
        with torch.autocast("cpu", torch.bfloat16, enabled=setting.precision == "autocast"):
            outputs = model(images.to(next(model.parameters()).dtype))
        optimizer.zero_grad()
        loss_of(outputs.float(), labels).backward()
        optimizer.step()
        if watch:
            watch(step)


def share(setting: Setting, step: int) -> float:
    """What share of its rate a step takes: the rise of the warm-up, then all of it, or half a cosine."""
    if step < setting.warmup:
        return (step + 1) / setting.warmup
    return (1 + math.cos(math.pi * step / setting.steps)) / 2 if setting.cosine else 1.0


@torch.no_grad()
def accuracy(model: nn.Module, dataset: data.Dataset, setting: Setting) -> float:
    """On the first images that were held out, 500 for MyNet, else 1,000."""
    model.eval()
    split = dataset.validation.first(500 if setting.model == "MyNet" else 1000)
    images = dataset.prepare(split.images, setting.model == "MyNet").to(next(model.parameters()).dtype)
    return round((model(images).argmax(1) == split.labels).double().mean().item(), 4)


def largest_norm(model: nn.Module) -> float:
    """Of any filter or unit of any layer: next to nothing in a network that has died of the pull."""
    layers = pruning.layers(model).values()
    return round(max(pruning.units(layer.weight.detach(), True).max().item() for layer in layers), 4)


class Watch:
    """Looks at the convolution's filters after each step: when they enter, and how their Γ follows."""

    def __init__(self, optimizer, weight: torch.Tensor, setting: Setting):
        self.optimizer, self.weight, self.setting = optimizer, weight, setting
        self.expected = pruning.expected_entry(optimizer)["0.weight"]
        self.gammas, self.weights = torch.zeros(2, setting.steps, len(weight))

    def __call__(self, step: int) -> None:
        self.gammas[step] = pruning.units(self.optimizer.gamma(self.weight).float())
        self.weights[step] = pruning.units(self.weight.detach().float())

    def found(self) -> dict:
        """`expected`: the step at which the first filter would enter if its size stayed as at the start; `first`: that
        at which one did; `follows`: ‖Γ‖/‖W‖ a time ν/(κα) after a filter entered, the median; `outside`: the median
        norm of the filters that are not in the support at the end."""
        inside = self.gammas > 0
        entered = [int(column.nonzero()[0, 0]) for column in inside.T if column.any()]
        filters = [i for i, column in enumerate(inside.T) if column.any()]
        later = round(self.setting.mu / self.setting.rate)
        ratios = [self.gammas[at + later, i] / self.weights[at + later, i]
                  for at, i in zip(entered, filters) if at + later < self.setting.steps]  # fmt: skip
        outside = self.weights[-1][~inside[-1]]
        return {
            "expected": self._expected(), "first": min(entered, default=None),
            "follows": round(torch.stack(ratios).median().item(), 3) if ratios else None,
            "outside": round(outside.median().item(), 4) if len(outside) else None,
        }  # fmt: skip

    def _expected(self) -> int | None:
        """The step after which the rates so far add up to what a constant rate takes `expected_entry` for."""
        sums = itertools.accumulate(share(self.setting, step) for step in range(100_000))
        return next((step for step, total in enumerate(sums) if total > self.expected.min()), None)


# ------------------------------------------------------------------------------------------ the page


PENDING = "Not measured yet: `python -m benchmarks.dessilbi_guide` does it."


def blocks(found: dict[str, dict]) -> dict[str, str]:
    """The guide's tables as Markdown, by the name of their markers; of those whose runs are all there."""
    shown = {"learns": _learns(found)}
    for name, rows in EXPERIMENTS.items():
        made = {label: found[key(setting)] for label, setting in rows.items() if key(setting) in found}
        shown[name] = _filters(name, made) if len(made) == len(rows) else PENDING
    return shown


def _learns(found: dict[str, dict]) -> str:
    rows = []
    for (network, words), setting in LEARNS.items():
        made = [[found.get(key(replace(setting, start=start, seed=seed))) for seed in SEEDS] for start in STARTS]
        rows.append([network, words, *(_count([run["accuracy"] for run in runs if run], network) for runs in made)])
    return table(["network", "setting", *STARTS], rows)


def _count(accuracies: list[float], network: str) -> str:
    if not accuracies:
        return DASH
    learned = sum(accuracy >= LEARNED[network] for accuracy in accuracies)
    return f"{learned} of {len(accuracies)} ({100 * min(accuracies):.1f} to {100 * max(accuracies):.1f} %)"


def _filters(name: str, rows: dict[str, dict]) -> str:
    if name == "dead":  # of LeNet
        head = ["", "accuracy (%)", "largest norm of a filter or unit"]
        return table(
            head, [[label, f"{100 * row['accuracy']:.1f}", f"{row['norm']:.2f}"] for label, row in rows.items()]
        )
    head = ["", "pull a step", "first entry, expected", "first entry", "Γ/W after ν/(κα)", "filters in the support",
            "norm outside", "accuracy (%)"]  # fmt: skip
    cells = []
    for label, row in rows.items():
        pull = EXPERIMENTS[name][label].rate / EXPERIMENTS[name][label].mu
        numbers = [shown(row[each]) for each in ("expected", "first", "follows")]
        cells.append(
            [
                label,
                f"{pull:.4g}",
                *numbers,
                row["support"]["0"],
                shown(row["outside"]),
                f"{100 * row['accuracy']:.1f}",
            ]
        )
    return table(head, cells)


def shown(value: float | None) -> str:
    return DASH if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def table(head: list[str], rows: list[list]) -> str:
    return Grid(pd.DataFrame([[str(cell) for cell in row] for row in rows], columns=head), "").grid(str)


def rewrite(found: dict[str, dict], path: Path = PAGE) -> None:
    path.write_text(filled(path.read_text(encoding="utf-8"), blocks(found)), encoding="utf-8")


def read(path: Path = KEPT) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"runs": {}}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dessilbi_guide", description=__doc__)
    parser.add_argument("--only", default="", help="make only the runs whose names contain this")
    only = parser.parse_args(arguments).only
    torch.set_num_threads(1)
    kept, wanted = read(), runs()
    for setting in tqdm([each for each in wanted if key(each) not in kept["runs"] and only in key(each)], unit="run"):
        started = time.process_time()
        kept["runs"][key(setting)] = {**measure(setting), "seconds": round(time.process_time() - started, 1)}
        kept.update(machine=provenance.machine(), revision=provenance.revision())
        KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    if PAGE.exists() and all(key(each) in kept["runs"] for each in wanted):
        rewrite(kept["runs"])


if __name__ == "__main__":
    main()
