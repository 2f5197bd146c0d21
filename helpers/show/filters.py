"""How what DessiLBI finds looks: the way of Γ, accuracy with a share of the network pruned, filters. It reads what runs
have recorded and never prunes or trains anything itself."""

import contextlib
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from helpers.experiments import PRUNED, Run
from helpers.records import Record, RecordError, Store, alive
from helpers.show.curves import BLACK, looks_of, no_record, spaced, tiles
from helpers.show.grid import Grid as Table
from helpers.show.text import DASH, listed, percent, signed

NEAR_ZERO = 0.01  # a filter whose norm is below this share of its layer's largest is near zero
SHOWN = tuple(percent / 100 for percent in range(0, 100, 10))  # the shares that tables show
CHEAP, DEAR = 0.5, 2.0  # points of accuracy: "at almost no cost", "falls fast"
ORDERS = {"magnitude": "magnitude", "support": "entry into the support", "elimination": "backward elimination"}
GOALS = {0.0: 0.994, 0.6: 0.993, 0.8: 0.99, 0.9: 0.985}  # ours: share of conv3 pruned → test accuracy


# ------------------------------------------------------------------------------------------ pruning


def accuracies(found: Sequence[Record], store: Store, layers: str, order: str, split: str = "test") -> np.ndarray:
    """Accuracy of each seed's network with each share of `experiments.PRUNED` pruned: (seeds, shares), 0 to 1.

    Seeds that learned nothing are left out where others did. `layers`: "conv3" or "conv3_fc1"; `order`: "support", the
    authors' order, "magnitude" or, for conv3, "elimination". No seeds, no rows.
    """
    name = f"pruned_{order}_{layers}_{split}"
    every = [store.arrays(record) for record in alive(list(found))]
    # A share of 10,000 images: what float32 adds to it could turn the last digit of a mean.
    series = [np.round(arrays[name].astype(float), 6) for arrays in every if name in arrays]
    return np.array(series).reshape(-1, len(PRUNED))


def in_own_order(found: Sequence[Record], store: Store, split: str = "test") -> np.ndarray:
    """`accuracies` on conv3 in the authors' order where Γ was followed, else by magnitude."""
    followed = any(f"path_{CONV3}" in store.arrays(record) for record in found)
    return accuracies(found, store, "conv3", "support" if followed else "magnitude", split)


def by_elimination(rows: Mapping[str, Sequence[Record]], store: Store) -> dict[str, np.ndarray]:
    """`accuracies` on conv3 of several rows, by backward elimination."""
    return {label: accuracies(found, store, "conv3", "elimination") for label, found in rows.items()}


def at(values: np.ndarray, share: float) -> np.ndarray:
    """The accuracies of `accuracies` at one share pruned, (seeds,)."""
    return values[:, int(np.argmin(np.abs(np.array(PRUNED) - share)))]


def mean_and_spread(values: np.ndarray) -> str:
    """Accuracies in percent: mean ± std where there are several, a dash where there are none."""
    if not len(values):
        return DASH
    spread = f" ± {100 * np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return percent(float(np.mean(values))) + spread


def pruning_table(
    columns: Mapping[str, np.ndarray | Mapping[float, float]], caption: str, shares: Sequence[float] = SHOWN
) -> Table:
    """Accuracy in percent, a row for each share pruned; a column is of `accuracies`, or stated as share → value."""
    rows = []
    for share in shares:
        row: dict[str, object] = {"pruned": f"{100 * share:.0f} %"}
        for label, values in columns.items():
            known = isinstance(values, Mapping)
            stated = values.get(round(share, 2)) if known else None
            row[label] = (DASH if stated is None else percent(stated)) if known else mean_and_spread(at(values, share))
        rows.append(row)
    frame = pd.DataFrame(rows)
    return Table(frame, caption, frame)


def cost(values: np.ndarray, share: float) -> float:
    """Points of accuracy that pruning `share` costs, mean over seeds; NaN without records."""
    return float(100 * (at(values, 0).mean() - at(values, share).mean())) if len(values) else float("nan")


def free_share(values: np.ndarray, points: float = CHEAP) -> float:
    """The largest share up to which pruning costs at most `points`, mean over seeds; NaN without records."""
    if not len(values):
        return float("nan")
    cheap = [cost(values, share) <= points for share in PRUNED]
    return PRUNED[cheap.index(False) - 1] if False in cheap else PRUNED[-1]


def against_goals(values: np.ndarray) -> str:
    """Mean accuracies (± std) beside GOALS, and which of these the means reach, in words."""
    if not len(values):
        return "not measured yet"
    return "; ".join(
        f"{_pruned(share)} {mean_and_spread(ours)} % (goal {100 * goal:.1f} %: "
        f"{'reached' if ours.mean() >= goal else 'missed'})"
        for share, goal in GOALS.items() for ours in [at(values, share)]
    )  # fmt: skip


def changes_table(lines: Mapping[str, np.ndarray], shares: Sequence[float] = tuple(GOALS)) -> Table:
    """By how many points each of `lines` (label → `accuracies`) differs from the one before, at each share pruned.

    Beside a difference stands its standard deviation, from the spread over the seeds of the two rows.
    """
    gains = {label: [gain(*pair, share) for share in shares] for label, pair in _steps(lines).items()}
    columns = ["change", *map(_pruned, shares)]
    frame = pd.DataFrame([[label, *(points for points, _ in each)] for label, each in gains.items()], columns=columns)
    texts = pd.DataFrame([[label, *(_with_deviation(*one) for one in each)] for label, each in gains.items()],
                         columns=columns)  # fmt: skip
    caption = "What each change adds to the row before it, in points (± its standard deviation), with a share of conv3"
    return Table(frame, f"{caption} pruned.", texts)


def clear_changes(lines: Mapping[str, np.ndarray], share: float) -> str:
    """Which rows differ from the one before by more than twice the standard deviation of the difference, in words."""
    gains = {label: gain(*pair, share) for label, pair in _steps(lines).items()}
    clear = [f"“{label}” {signed(points)}" for label, (points, deviation) in gains.items()
             if abs(points) > 2 * deviation]  # fmt: skip
    return f"{_pruned(share)} {listed(clear) if clear else 'none'}"


def apart_from_first(lines: Mapping[str, np.ndarray], share: float) -> str:
    """Which rows differ from the first of `lines` by more than two standard deviations of the difference, in words.

    The spread over the first row's seeds stands for that of the others, which may have a single one.
    """
    first, *others = lines
    base, clear = at(lines[first], share), []
    for label in others if len(base) > 1 else ():
        if len(values := at(lines[label], share)):
            gap = values.mean() - base.mean()
            if abs(gap) > 2 * base.std(ddof=1) * math.sqrt(1 / len(base) + 1 / len(values)):
                clear.append(f"“{label}” {signed(100 * gap)}")
    return f"{_pruned(share)} {listed(clear) if clear else 'none'}"


def _steps(lines: Mapping[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Each of `lines` after the one before it."""
    known = {label: values for label, values in lines.items() if len(values)}
    return {label: (known[last], known[label]) for last, label in zip(known, list(known)[1:])}


def gain(before: np.ndarray, after: np.ndarray, share: float) -> tuple[float, float]:
    """By how many points the mean of `after` is above that of `before`, with a share pruned, and the standard
    deviation of that; NaN where one has a single seed."""
    old, new = at(before, share), at(after, share)
    deviation = math.sqrt(sum(np.var(each, ddof=1) / len(each) if len(each) > 1 else math.nan for each in (old, new)))
    return float(100 * (new.mean() - old.mean())), 100 * deviation


def _with_deviation(points: float, deviation: float) -> str:
    return signed(points) + ("" if math.isnan(deviation) else f" ± {deviation:.2f}")


def first_peak(found: Sequence[Record], store: Store, steps: int = 100) -> float:
    """The largest training loss among the first `steps` of a row's runs; NaN without records."""
    losses = [arrays["step_loss"][:steps].max() for record in found if (arrays := store.arrays(record))]
    return float(max(losses, default=math.nan))


def entry_against_norm(rows: Mapping[str, Sequence[Record]], store: Store, apart: float = 1e-4) -> tuple[int, int]:
    """Of the rows' mean accuracies with 60, 80 and 90 % pruned: in how many pruning in the order of entry is ahead of
    pruning by norm by more than `apart`, and in how many behind."""
    pairs = [
        [accuracies(found, store, "conv3", order) for order in ("support", "magnitude")] for found in rows.values()
    ]
    gaps = [at(entry, share).mean() - at(norm, share).mean() for entry, norm in pairs if len(entry) and len(norm)
            for share in (0.6, 0.8, 0.9)]  # fmt: skip
    return sum(gap > apart for gap in gaps), sum(gap < -apart for gap in gaps)


def rows_at_goals(lines: Mapping[str, np.ndarray]) -> str:
    """Which rows reach each of GOALS, and which reach all: in words. `lines`: label → `accuracies` of its seeds."""
    known = {label: values for label, values in lines.items() if len(values)}
    reach = {
        share: [label for label, values in known.items() if at(values, share).mean() >= goal]
        for share, goal in GOALS.items()
    }
    each = "; ".join(f"{_pruned(share)} {_some(labels)}" for share, labels in reach.items())
    everywhere = [label for label in known if all(label in labels for labels in reach.values())]
    return f"{each}. All of them: {_some(everywhere)}"


def _some(labels: Sequence[str]) -> str:
    return listed(f"“{label}”" for label in labels) if labels else "no row"


def _pruned(share: float) -> str:
    """As a table's head says it; the number stays with its sign."""
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}% pruned" if share else "dense"


def pruning_curves(
    lines: Mapping[str, np.ndarray], ax: Axes, stated: Mapping[str, Mapping[float, float]] | None = None
) -> Axes:
    """Accuracy against the share pruned: mean and range of each line's seeds; what is stated as crosses."""
    shares = 100 * np.array(PRUNED)
    for place, ((label, values), look) in enumerate(zip(lines.items(), looks_of(lines))):
        if len(values):
            ax.plot(shares, 100 * values.mean(0), **look, **spaced(len(shares), place), label=label)
            ax.fill_between(shares, 100 * values.min(0), 100 * values.max(0), color=look["color"], alpha=0.2, lw=0)
    if not ax.lines:
        return no_record(ax)
    for (label, values), marker in zip((stated or {}).items(), "x+", strict=False):
        ax.plot(100 * np.array(list(values)), 100 * np.array(list(values.values())), marker, color=BLACK, label=label)
    ax.set(xlabel="pruned (%)", ylabel="test accuracy (%)", xlim=(-2, 97))
    ax.legend()
    return ax


def sizes_kept(
    rows: Mapping[str, Sequence[Record]],
    store: Store,
    shares: Sequence[float] = (0.0, 0.6, 0.8, 0.9),
    stated: Mapping[str, Mapping[float, float]] | None = None,
    split: str = "test",
    eliminated: Sequence[float] = (),
) -> Table:
    """For each row: accuracy with each of `shares` of conv3 pruned, and how many filters Γ has in the end.

    In the authors' order where Γ was followed, else by magnitude; with the shares `eliminated` by backward elimination
    besides. First what is `stated`: label → share → accuracy. `split`: "test" or "validation".
    """
    eliminations = {f"{_pruned(share)} by elimination": share for share in eliminated}
    lines = [
        {"": label} | {_pruned(share): percent(values.get(share)) for share in shares}
        | {name: DASH for name in eliminations}
        | {"support (of 120)": DASH, "n": DASH}
        for label, values in (stated or {}).items()
    ]  # fmt: skip
    for label, found in rows.items():
        values, best = in_own_order(found, store, split), accuracies(found, store, "conv3", "elimination", split)
        support = [support_sizes(arrays)[-1] for record in alive(list(found))
                   if f"path_{CONV3}" in (arrays := store.arrays(record))]  # fmt: skip
        lines.append({
            "": label,
            **{_pruned(share): mean_and_spread(at(values, share)) for share in shares},
            **{name: mean_and_spread(at(best, share)) for name, share in eliminations.items()},
            "support (of 120)": f"{np.mean(support):.0f}" if support else DASH,
            "n": _counted(found),
        })  # fmt: skip
    frame = pd.DataFrame(lines)
    caption = f"{split.capitalize()} accuracy (%) with a share of conv3's filters pruned, not trained again."
    return Table(frame, caption, frame)


def orders_table(
    rows: Mapping[str, Sequence[Record]], store: Store, shares: Sequence[float] = (0.6, 0.8, 0.9, 0.95)
) -> Table:
    """For each row, in each order in which conv3's filters can go: accuracy with each of `shares` of them pruned."""
    lines = [
        {"": label, "order": said, **{_pruned(share): mean_and_spread(at(values, share)) for share in shares},
         "n": str(len(values))}
        for label, found in rows.items() for order, said in ORDERS.items()
        if len(values := accuracies(found, store, "conv3", order))
    ]  # fmt: skip
    frame = pd.DataFrame(lines, columns=["", "order", *map(_pruned, shares), "n"])
    return Table(frame, "Test accuracy (%) with a share of conv3's filters pruned, by what goes first.", frame,
                 left=("order",))  # fmt: skip


def _counted(found: Sequence[Record]) -> str:
    """How many seeds a mean is over: "3", or "2 of 3" where one learned nothing."""
    living = len(alive(list(found)))
    return str(len(found)) if living == len(found) else f"{living} of {len(found)}"


def sizes_table(left: Sequence[Mapping[str, float]]) -> Table:
    """What is left of a network when its zeroed filters are cut out, from `pruning.sizes`."""
    frame = pd.DataFrame(left)
    texts = pd.DataFrame({
        "conv3 pruned": [f"{100 * each['pruned']:.0f} %" for each in left],
        "parameters left": [f"{each['parameters']:,}" for each in left],
        "multiply-adds left (%)": [f"{100 * each['multiply_adds']:.1f}" for each in left],
    })  # fmt: skip
    return Table(frame, "LeNet with the zeroed filters of conv3 cut out.", texts)


# ------------------------------------------------------------------------------------------ the way of Γ

CONV3 = "features.conv3.weight"


def support_sizes(arrays: Mapping[str, np.ndarray], name: str = CONV3) -> np.ndarray:
    """How many filters of a layer are in the support at each moment that the record of a run holds."""
    return (arrays[f"path_{name}"] > 0).sum(1)


def support_words(found: Sequence[Record], store: Store, name: str = CONV3) -> str:
    """How many of a layer's filters are in the support at the end and after a quarter of the run, mean over seeds."""
    paths = [arrays for record in alive(list(found)) if f"path_{name}" in (arrays := store.arrays(record))]
    if not paths:
        return "no record yet"
    sizes = np.array([support_sizes(arrays, name) for arrays in paths])
    quarter, end = sizes[:, sizes.shape[1] // 4].mean(), sizes[:, -1].mean()
    when = f", {quarter:.0f} of them by a quarter of the run" if end else ""
    return f"{end:.0f} of {paths[0][f'path_{name}'].shape[1]}{when}"


def norm_needed(run: Run, steps: int) -> float:
    """‖W‖ that a filter must keep over a run of `steps` steps to enter the support at its end: ν / Σ α.

    While Γ = 0, Z gains α/ν W a step, and the filter enters once ‖Z‖ exceeds 1.
    """
    return run.mu / sum(run.rate(step / steps) for step in range(steps))


def solution_path(found: Sequence[Record], store: Store, ax: Axes, name: str = CONV3) -> Axes:
    """‖Γ‖ of each filter of a layer over the first run of a row: dark where it entered the support early."""
    arrays = store.arrays(found[0]) if found else {}
    if f"path_{name}" not in arrays:
        return no_record(ax)
    norms, total = arrays[f"path_{name}"], arrays["path_step"][-1]
    epochs = arrays["path_step"] / total * found[0].run.epochs
    entry = np.where((norms > 0).any(0), (norms > 0).argmax(0), len(norms))
    for rank, unit in enumerate(np.argsort(entry, kind="stable")):
        if entry[unit] < len(norms):
            ax.plot(epochs, norms[:, unit], color=str(0.8 * rank / norms.shape[1]), lw=0.8)
    never = int((entry == len(norms)).sum())
    ax.set(xlabel="epoch", ylabel="‖Γ‖ of a filter", xlim=(0, found[0].run.epochs))
    ax.set_title(f"{norms.shape[1] - never} of {norms.shape[1]} filters entered, dark ones first", fontsize=8)
    return ax


# ------------------------------------------------------------------------------------------ filters


def filter_norms(weights: np.ndarray) -> np.ndarray:
    """‖W_f‖ of each filter: (F, C, …) → (F,)."""
    return np.linalg.norm(weights.reshape(len(weights), -1), axis=1)


def near_zero(weights: np.ndarray) -> int:
    """How many filters have a norm below NEAR_ZERO of the largest."""
    norms = filter_norms(weights)
    return int((norms < NEAR_ZERO * norms.max()).sum())


def weights_of(row, name: str = CONV3) -> list[np.ndarray]:
    """The weights of a layer in each record of a `Row` that has them."""
    kept = []
    for record in row:
        with contextlib.suppress(RecordError, KeyError):
            kept.append(row.store.weights(record)[name])
    return kept


def strengths(weights: np.ndarray, ax: Axes, scale: float, columns: int = 15) -> Axes:
    """Filters (F, C, H, W) as tiles: the mean |w| over inputs, black for 0, white for `scale` and above."""
    sheet = tiles(np.abs(weights).mean(1)[..., None], columns, white=scale)[..., 0]
    ax.imshow(sheet, cmap="gray", vmin=0, vmax=scale, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    return ax


def norm_curves(weights: Mapping[str, np.ndarray], ax: Axes) -> Axes:
    """Filter norms, largest first, of one layer in several networks."""
    for place, ((label, values), look) in enumerate(zip(weights.items(), looks_of(weights))):
        norms = np.sort(filter_norms(values))[::-1]
        ax.plot(np.arange(1, len(norms) + 1), norms, **look, **spaced(len(norms), place), label=label)
    ax.set(xlabel="filter, largest first", ylabel="‖W‖ of a filter", yscale="log")
    ax.legend()
    return ax
