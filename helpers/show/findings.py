"""What came of it: five findings and a table of eight claims, as the README and the overview tell them, in English and
in Chinese. Numbers come from records; the words are written here, for the verdicts in `PRESUMED`."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from helpers import records
from helpers.experiments import REPORTED_PRUNED
from helpers.records import FAILS, HOLDS, IN_PART, ONE_RUN, OPEN, UNMEASURED
from helpers.show import bands, claims, filters, support
from helpers.show.comparison import Report
from helpers.show.grid import Grid
from helpers.show.text import DASH, NORMED, PLAIN, Points

# The claims of the table, by their first words, and the verdicts for which its sentences were written. A test compares
# them with the records: where a verdict has changed, the words here want to be read again.
PRESUMED = {
    "1.2 Batch norm": HOLDS,
    "1.3 Dropout": FAILS,
    "1.6 ReLU": HOLDS,
    "1.9 Crop": HOLDS,
    "2.1 Batch norm": IN_PART,
    "2.4 With batch norm": ONE_RUN,
    "3.1 Up to": IN_PART,
    "3.2 Adam": f"{OPEN} {claims.DAGGER}",
}
FINAL = "the final network"  # the line of the table that is a score, not a claim

ENGLISH = {
    "columns": ("claim", "report", "ours", "verdict", "why"),
    "caption": "The report's main claims. Differences are in points of test accuracy, with their 95 % interval.",
    "findings": (
        "**A single run proves little.** The report finds one loss {loss.reported:.2f} points better than another that "
        "is the same function. Two runs of that network, alike but for their seed, differ by {noise:.1f} points or "
        "more in one case of twenty. With three seeds, the verdicts on the report's {count} claims are: {tally}.",
        "**Augmentation, batch norm and ReLU matter; most other choices don't.** Crops and flips bring the ResNet9 "
        "{crops} points. ReLU is {relu} points above tanh in the small network, which at the stated rate of {rate:g} "
        "ends at {fallen.accuracy} % without batch norm. Dropout, the largest gain there in the report "
        "({dropout.reported}), changes accuracy by {dropout}.",
        "**Batch norm makes VGG-A easier to train: {vgg} points** (report: {vgg.reported}). Over four learning rates "
        "the loss varies {width:.2f} times as much with it. Whether the loss becomes smoother depends on the "
        "moment: effective β, which says how fast the gradient changes along a step, is {early:.2f} times as large "
        "with batch norm in the first fifth of training, and {late:.2f} times after it (one run a rate).",
        "**DessiLBI can find the filters that a network needs; whether it did in the report can't be told.** In the "
        "reading that comes closest to the report's scores {empty:.0f} of 120 filters enter its sparse copy of the "
        "weights; with the rate falling in one step, as in the authors' code, {fewest:.0f} to {most:.0f} do (one run "
        "each). With larger steps and settings to match, {support:.0f} are enough: pruned to a tenth, without further "
        "training, the layer still gives {kept} %; after SGD, {lost} % by size and {searched} % by backward "
        "elimination.",
        "**Whether Adam improves DessiLBI can't be told at the report's rates.** On MNIST its sparse copy stays empty, "
        "which makes it AdamW under another name; on CIFAR-10 {dead} of {runs} runs fail to train.",
    ),
    "lines": {
        "1.3 Dropout": (
            "1.3 Dropout of 0.3 raises accuracy", "{dropout.reported}", "{dropout}",
            "Our network without dropout is {bare} points from the report's: the gain was from a low start.",
        ),
        "1.6 ReLU": (
            "1.6 ReLU is better than tanh, by far", "{relu.reported}", "{relu}",
            "Our tanh ends {tanh} points from the report's.",
        ),
        "1.9 Crop": (
            "1.9 Augmentation raises accuracy", "{crops.reported}", "{crops}",
            "Training accuracy ends at {seen:.0f} % in place of {learned:.0f} %: fewer images are learned by heart.",
        ),
        FINAL: (
            "1.9 The final ResNet9", "{final.reported} %", "{final.accuracy} %",
            "Ours stop in the middle of their rate's cycle; one run that stops at the low rate has {low.accuracy} %.",
        ),
        "2.1 Batch norm": (
            "2.1 Batch norm raises VGG-A's accuracy, and it rises faster", "{vgg.reported}", "{vgg}",
            "It is higher; whether it rises faster, three seeds don't tell.",
        ),
        "2.4 With batch norm": (
            "2.4 With batch norm effective β is smaller", "–", "{beta:.2f} ×",
            "One run a rate; along one step it is smaller early and larger later.",
        ),
        "3.1 Up to": (
            "3.1 30 to 40 % of a layer's filters can go; beyond, accuracy falls fast", "{fall_reported} at 60 %",
            "{fall} at 60 %", "30 % costs nothing; at 60 % the seeds lie far apart.",
        ),
        "3.2 Adam": (
            "3.2 Adam raises DessiLBI's accuracy", "{adam.reported}, {deep_reported}", "{adam}, {deep} †",
            "The sparse copy stays empty: Adam alone is at work.",
        ),
    },
}  # fmt: skip

CHINESE = {
    "columns": ("论断", "原报告", "本仓库", "判定", "原因"),
    "caption": "原报告的主要论断。差值以测试准确率的百分点计，方括号内为 95 % 置信区间。",
    "findings": (
        "**单次运行说明不了什么。** 原报告发现一种损失函数比另一种高 {loss.reported:.2f} 个百分点，而两者其实是同一个"
        "函数。该网络仅随机种子不同的两次运行，每二十次中就有一次相差 {noise:.1f} 个百分点以上。用三个种子重复之"
        "后，原报告 {count} 条论断的判定为：{tally}。",
        "**数据增广、批归一化和 ReLU 起作用，其余选择大多不起作用。** 随机裁剪与翻转使 ResNet9 提高 {crops} 个百"
        "分点；在小网络中 ReLU 比 tanh 高 {relu}，而在原报告所写的学习率 {rate:g} 下，没有批归一化的该网络最终只有 "
        "{fallen.accuracy} %。Dropout 是原报告在这一网络上最大的收益（{dropout.reported}），在这里则使准确率变化 "
        "{dropout} 个百分点。",
        "**批归一化使 VGG-A 更容易训练：{vgg} 个百分点**（原报告：{vgg.reported}）。在四种学习率之间，损失的变化"
        "幅度是没有批归一化时的 {width:.2f} 倍。损失曲面是否更平滑则要看训练阶段：等效 β（梯度沿一步变化的快慢）在训练"
        "的前五分之一是没有批归一化时的 {early:.2f} 倍，此后是 {late:.2f} 倍（每种学习率一次运行）。",
        "**DessiLBI 能够找出网络需要的卷积核；原报告中是否如此，则无法判断。** 按与原报告分数最接近的解读，120 个卷积核"
        "中有 {empty:.0f} 个进入它的稀疏副本；若学习率如作者代码那样一次性下降，则有 {fewest:.0f} 到 {most:.0f} 个进入"
        "（各一次运行）。步长更大、设置与之匹配时，{support:.0f} 个卷积核就够了：剪到十分之一且不再训练，准确率仍为 "
        "{kept} %，而 SGD 的网络按大小剪枝为 {lost} %，按逐步消去为 {searched} %。",
        "**在原报告的学习率下，无法判断 Adam 是否改进了 DessiLBI。** 在 MNIST 上它的稀疏副本始终为空，不过是换"
        "了名字的 AdamW；在 CIFAR-10 上，{runs} 次运行中有 {dead} 次训练失败。",
    ),
    "lines": {
        "1.3 Dropout": ("1.3 Dropout 0.3 提高准确率", "{dropout.reported}", "{dropout}",
                        "我们不用 dropout 的网络与原报告相差 {bare} 个百分点：原来的收益来自偏低的起点。"),
        "1.6 ReLU": ("1.6 ReLU 远好于 tanh", "{relu.reported}", "{relu}", "我们的 tanh 与原报告相差 {tanh} 个百分点。"),
        "1.9 Crop": ("1.9 数据增广提高准确率", "{crops.reported}", "{crops}",
                     "训练准确率最终为 {seen:.0f} % 而不是 {learned:.0f} %：被死记的图像更少。"),
        FINAL: ("1.9 最终的 ResNet9", "{final.reported} %", "{final.accuracy} %",
                "我们的运行停在学习率周期的中间；停在最低学习率处的一次运行为 {low.accuracy} %。"),
        "2.1 Batch norm": ("2.1 批归一化提高 VGG-A 的准确率，且上升更快", "{vgg.reported}", "{vgg}",
                           "准确率更高；是否上升更快，三个种子还看不出来。"),
        "2.4 With batch norm": ("2.4 有批归一化时等效 β 更小", "–", "{beta:.2f} ×",
                                "每种学习率只有一次运行；沿同一步方向它先小后大。"),
        "3.1 Up to": ("3.1 一层中 30 到 40 % 的卷积核可以剪去；再多则准确率骤降", "60 % 时 {fall_reported}",
                      "60 % 时 {fall}", "剪去 30 % 没有损失；剪去 60 % 时各种子差别很大。"),
        "3.2 Adam": ("3.2 Adam 提高 DessiLBI 的准确率", "{adam.reported}，{deep_reported}", "{adam}，{deep} †",
                     "稀疏副本为空：起作用的只是 Adam。"),
    },
    "verdicts": {HOLDS: "成立", FAILS: "不成立", IN_PART: "部分成立", OPEN: "未决", ONE_RUN: "未决（仅一次运行）",
                 UNMEASURED: "尚无记录", ", ": "，"},
}  # fmt: skip


def numbers(report: Report) -> dict[str, Any]:
    """Every number that the sentences cite, by the name that they cite it by; MISSING where there is no record."""
    losses, norm, dropout = report["1.4 loss"], report["1.2 batch norm"], report["1.3 dropout after each conv"]
    activations, augmentation = report["1.6 activation"], report["1.9 augmentation"]
    accuracy, optimizers = report["2.1 accuracy"], report["3.1 optimizer"]
    others = report["3.1 other ways to sparse filters"]
    mnist, cifar, final = report["3.2 MNIST"], report["3.2 CIFAR-10"], report["1.9 final"]["final"]
    low, stated = report["readings MyResNet9's cycle"]["ends at the low rate: final"], REPORTED_PRUNED["conv3"]
    learned, seen = (100 * row.last("train_accuracy") for row in augmentation.values())
    sparse, dense = (filters.Pruned(others[label]) for label in ("DessiLBI", "SGD"))
    searched = filters.Pruned(others["SGD"], "elimination")
    judged = claims.judge(report)
    return {
        "count": len(judged), "tally": claims.tally(judged), "loss": losses.gap("NLL", "cross-entropy"),
        "noise": records.by_chance(losses.spread("NLL")),
        "relu": activations.gap("ReLU", "tanh"), "tanh": activations["tanh"].difference, "rate": norm["without"].run.lr,
        "dropout": dropout.gap("0.3", "0"), "bare": norm["with"].difference,
        "crops": augmentation.gap("crop + flip + normalisation", "none"), "learned": learned, "seen": seen,
        "final": final, "low": low,
        "vgg": accuracy.gap(NORMED, PLAIN), **_smoothness(report),
        "empty": support.size(optimizers["DessiLBI"]), "support": support.size(others["DessiLBI"]), **_rounded(report),
        "kept": sparse.at(0.9), "lost": dense.at(0.9), "searched": searched.at(0.9), "fallen": norm["without"],
        "fall": Points(-filters.Pruned(optimizers["DessiLBI"]).cost(0.6)),
        "fall_reported": Points(100 * (stated[0.6] - stated[0.0])),
        "adam": mnist.gap("with Adam", "without"), "deep": cifar.gap(claims.USUAL, "without"),
        "deep_reported": cifar.gap("with Adam", "without").reported,
        "dead": cifar["with Adam"].failed, "runs": cifar["with Adam"].n,
        "verdicts": verdicts(judged) | {FINAL: DASH},
    }  # fmt: skip


def _rounded(report: Report) -> dict[str, Any]:
    """The fewest and the most filters that enter where the rate falls in one step, by the momentum."""
    rates = report["readings DessiLBI's rate"]
    names = "counted on from pretraining", "counted on, momentum 0.5", "counted on, no momentum"
    sizes = sorted(float(support.size(rates[f"{name}: DessiLBI"])) for name in names)
    return {"fewest": sizes[0], "most": sizes[-1]}


def _smoothness(report: Report) -> dict[str, Any]:
    """With batch norm over without: the loss's width over the rates; effective β over the rates, and along one step."""
    rates = bands.networks(report["2.2 loss landscape"])
    step = bands.along(rates, "lr 0.001")["effective β"]
    return {
        "width": 1 / bands.over(bands.both(rates, "step_loss"), "width"),
        "beta": 1 / bands.over(bands.both(rates, "smoothness"), "middle"),
        "early": 1 / bands.over(step, "middle", 0, 0.2),
        "late": 1 / bands.over(step, "middle", 0.2, 1),
    }


def findings(known: dict[str, Any], words: dict[str, Any] = ENGLISH) -> str:
    """The findings as a numbered list in Markdown; `known`: what `numbers` gives."""
    known = known | {"tally": _translated(known["tally"], words)}
    return "\n".join(f"{number}. {each.format(**known)}" for number, each in enumerate(words["findings"], 1))


def table(known: dict[str, Any], words: dict[str, Any] = ENGLISH) -> Grid:
    """The eight lines: claim, the report's number, ours, verdict, why."""
    lines = []
    for name, texts in words["lines"].items():
        claim, theirs, ours, why = (each.format(**known) for each in texts)
        lines.append((claim, theirs, ours, _translated(known["verdicts"][name], words), why))
    return Grid(pd.DataFrame(lines, columns=words["columns"]), words["caption"], left=words["columns"])


def verdicts(judged: Sequence[claims.Judgement]) -> dict[str, str]:
    """The verdicts on the claims of the table, by the names in PRESUMED."""
    found = {f"{each.section} {each.claim}": each.shown for each in judged}
    return {name: next(shown for words, shown in found.items() if words.startswith(name)) for name in PRESUMED}


def _translated(text: str, words: dict[str, Any]) -> str:
    """Verdicts in the language of `words`; the longer first, as some hold others."""
    for verdict, meant in sorted(words.get("verdicts", {}).items(), key=lambda pair: -len(pair[0])):
        text = text.replace(verdict, meant)
    return text
