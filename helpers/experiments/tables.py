"""Every table of the report: a dict of label → `replace(base, one_thing=…)`, one line a row. Nothing is trained or read
here."""

from helpers.experiments.readings import (
    basic_norm,
    basic_rate,
    cycle,
    sparse_momentum,
    sparse_rate,
    starter_sparse,
    starter_terms,
    tried,
)
from helpers.experiments.run import Constant, Cosine, Cyclic, Mask, Run, Steps, replace

# The shares of LeNet's filters and weights that are pruned when a run has ended, and in which layers.
PRUNED = tuple(percent / 100 for percent in range(0, 100, 5))
PRUNED_LAYERS = {"conv3": ("features.conv3",), "conv3_fc1": ("features.conv3", "classifier.fc1")}

# ------------------------------------------------------------------------------------------ section 1

base = Run(model="MyNet", loss="nll", optimizer="sgd", lr=0.1, momentum=0.5, epochs=50)
dropped = replace(base, dropout=0.3)
best = replace(dropped, hidden=100)
in_float32 = replace(best, precision="float32")  # where a processor has bfloat16, timing picks that

SECTION_1 = {
    "1.2 batch norm": {
        "without": replace(base, batch_norm=False),
        "with": base,
    },
    "1.3 dropout after each conv": {
        "0": base,
        "0.5": replace(base, dropout=0.5),
        "0.3": dropped,
        "0.1": replace(base, dropout=0.1),
    },
    "1.4 loss": {
        "NLL": dropped,
        "cross-entropy": replace(dropped, loss="cross_entropy"),
    },
    "1.5 optimizer": {
        "SGD with momentum": dropped,
        "Adam": replace(dropped, optimizer="adam", momentum=0),
        "RMSprop": replace(dropped, optimizer="rmsprop", momentum=0),
        "Adam, usual rate 1e-3": replace(dropped, optimizer="adam", momentum=0, lr=1e-3),
        "RMSprop, usual rate 1e-3": replace(dropped, optimizer="rmsprop", momentum=0, lr=1e-3),
    },
    "1.6 activation": {
        "ReLU": dropped,
        "tanh": replace(dropped, activation="tanh"),
    },
    "1.6 kernels": {
        "5×5 + 5×5": dropped,
        "5×5 + 3×3": replace(dropped, kernels=(5, 3)),
        "3×3 + 3×3": replace(dropped, kernels=(3, 3)),
    },
    "1.7 hidden size": {
        "1024": dropped,
        "100": best,
        "300": replace(dropped, hidden=300),
    },
    "1.8 best model": {
        "best model": best,
    },
    "precision": {
        "as timed": best,
        "float32": in_float32,
    },
}

# ------------------------------------------------------------------------------------------ section 1.9

plain = Run(model="MyResNet9", options={"block_kernel": 5}, lr=0.01, momentum=0.5, epochs=50)
augmented = replace(plain, augment=("crop", "flip"))
decayed = replace(augmented, weight_decay=1e-4)
moving = replace(decayed, momentum=0.9)
cyclic = replace(moving, schedule=Cyclic(high=0.04))
small_kernel = replace(cyclic, block_kernel=3)
final = replace(small_kernel, weight_decay=4e-4)

SECTION_1_9 = {
    "augmentation": {
        "none": plain,
        "crop + flip + normalisation": augmented,
    },
    "L2 regularisation": {
        "none": augmented,
        "1e-4": decayed,
        "4e-4": replace(augmented, weight_decay=4e-4),
    },
    "momentum": {
        "0.5": decayed,
        "0.9": moving,
    },
    "learning rate": {
        "0.01": moving,
        "cyclic 0.01–0.04": cyclic,
        "0.04, then 0.01": replace(moving, lr=0.04, schedule=Steps(at=(0.4,), factor=0.25)),
    },
    "kernel of one block": {
        "5×5, stride 2": cyclic,
        "3×3, stride 1": small_kernel,
    },
    "final": {
        "final": final,
    },
    "other activations and losses": {
        "ReLU": final,
        "tanh": replace(final, activation="tanh"),
    },
}

# ------------------------------------------------------------------------------------------ section 2

vgg_bn = Run(model="VGG", lr=0.01, momentum=0.9, epochs=20, probes=("surface",))
vgg = replace(vgg_bn, batch_norm=False)
adam_on_vgg = replace(vgg_bn, optimizer="adam", momentum=0, lr=1e-3, probes=())
measured = replace(vgg_bn, precision="float32", probes=("gradient_change", "smoothness", "along_gradient"))
landscape = {rate: replace(measured, lr=float(rate)) for rate in ("2e-3", "1e-3", "5e-4", "1e-4")}
landscape_runs = {
    **{f"VGG-A, {rate}": replace(run, batch_norm=False) for rate, run in landscape.items()},
    **{f"VGG-A + BN, {rate}": run for rate, run in landscape.items()},
}

SECTION_2 = {
    "2.1 accuracy": {
        "VGG-A": vgg,
        "VGG-A + BN": vgg_bn,
    },
    "2.1 accuracy with Adam": {
        "VGG-A": replace(adam_on_vgg, batch_norm=False),
        "VGG-A + BN": adam_on_vgg,
    },
    "2.1 initialisation": {
        "VGG-A, Kaiming": vgg,
        "VGG-A, PyTorch's own": replace(vgg, init="default", probes=()),
    },
    "2.2 loss landscape": landscape_runs,
}

# ------------------------------------------------------------------------------------------ section 3.1

lenet = Run(data="mnist", model="LeNet", lr=5e-3, epochs=20, batch_size=128, normalize=False)
pretrained = lenet
mnist_sgd_stated = replace(lenet, start=pretrained, epochs=30, lr=0.04, momentum=0.9)
mnist_sgd = sparse_momentum(mnist_sgd_stated)
WARMUP = 1 / 30  # share of the run over which the rate rises: one epoch of thirty
mnist_sgd_warm = replace(mnist_sgd_stated, schedule=Steps(at=(), factor=1, warmup=WARMUP))
mnist_stated = replace(
    mnist_sgd_stated, optimizer="dessilbi", lr=0.1, mu=20, schedule=Steps(at=(2 / 3,), factor=0.1), probes=("path",)
)
mnist_dessilbi = sparse_rate(mnist_stated)
# As stated, the first steps from pretrained weights are too large: all units die. One epoch of warm-up, ours, mends it.
mnist_warm = replace(mnist_stated, schedule=Steps(at=(2 / 3,), factor=0.1, warmup=WARMUP))
mnist_sgd_dropped = replace(mnist_sgd_stated, schedule=mnist_warm.schedule)  # so that only the optimizer differs
mnist_calm = replace(mnist_stated, momentum=0)  # the report doesn't name the momentum
scratch = replace(mnist_stated, start=None, epochs=60)

# From the authors' setting to one whose support ends near the size that is to be kept.
shifted = replace(scratch, augment=("shift",), schedule=Cosine(warmup=0.03))
one_layer = replace(shifted, penalized=("features.conv3",))
sparser = replace(one_layer, kappa=20, lr=0.1 / 20)
tighter = replace(sparser, mu=3)
longer = replace(tighter, epochs=100)
sparsest = replace(longer, kappa=80, lr=0.1 / 80)
turned = replace(sparsest, augment=("shift", "affine"))
longest = replace(turned, epochs=200)
nearby = {  # a search on the validation set: one thing at a time in the last one's place, with one seed
    "κ 40": replace(longest, kappa=40, lr=0.1 / 40),
    "κ 40, half the step": replace(longest, kappa=40, lr=0.05 / 40),
    "ν 5": replace(longest, mu=5),
    "κ 40, ν 5": replace(longest, kappa=40, lr=0.1 / 40, mu=5),
    "batches of 256": replace(longest, batch_size=256),
    "weight decay 1e-4": replace(longest, weight_decay=1e-4),
    "no turns or sizes": replace(longest, augment=("shift",)),
}
# What the search points to, from pretrained weights: a weaker pull, so that more filters stay, and some can be missed.
freer = replace(longest, start=mnist_sgd_warm, kappa=60, lr=0.1 / 60, mu=4, weight_decay=1e-4)
pulls = {
    "κ 60, ν 4": freer,
    "κ 60, ν 5": replace(freer, mu=5),
    "κ 80, ν 5": replace(freer, kappa=80, lr=0.1 / 80, mu=5),
}
same_sgd = replace(shifted, optimizer="sgd", mu=100, probes=(), epochs=longer.epochs)
bregman = replace(same_sgd, optimizer="linbreg", penalized=("features.conv3",), density=0.1, lam=0.03)

# The filters and weights of each layer that Γ found early, trained again from the same pretrained weights.
ticket = replace(mnist_sgd_warm, mask=Mask(of=mnist_warm, epoch=5))
by_lot = replace(mnist_sgd_warm, mask=Mask(of=mnist_warm, epoch=5, random=True))

SECTION_3_1 = {
    "optimizer": {
        "SGD": mnist_sgd,
        "DessiLBI": mnist_dessilbi,
        "SGD, momentum 0.9": mnist_sgd_stated,
        "DessiLBI, as stated": mnist_stated,
        "SGD, warm-up": mnist_sgd_warm,
        "SGD, warm-up and drop": mnist_sgd_dropped,
        "DessiLBI, warm-up": mnist_warm,
        "DessiLBI, no momentum": mnist_calm,
        "DessiLBI, authors' setting": scratch,
    },
    "pretrained": {
        "pretrained": pretrained,
    },
    "what each change brings": {
        "authors' setting": scratch,
        "+ shifts, cosine rate": shifted,
        "+ conv3 alone penalised": one_layer,
        "+ κ 20": sparser,
        "+ ν 3": tighter,
        "+ 100 epochs": longer,
        "+ κ 80": sparsest,
        "+ turns and sizes": turned,
        "+ 200 epochs": longest,
        "+ κ 60, ν 4, decay, pretrained": freer,
    },
    "around 200 epochs": {
        "+ 200 epochs": longest,
        **nearby,
    },
    "weaker pulls": pulls,
    "other ways to sparse filters": {
        "DessiLBI": sparsest,
        "SGD": same_sgd,
        "LinBreg": bregman,
        "AdaBreg": replace(bregman, optimizer="adabreg", momentum=0, lr=1e-3),
    },
    "winning ticket": {
        "all weights": mnist_sgd_warm,
        "early support": ticket,
        "as much at random": by_lot,
    },
}

# ------------------------------------------------------------------------------------------ section 3.2

mnist_adam = replace(mnist_stated, optimizer="dessilbi_adam", momentum=0, lr=3e-4, schedule=Constant())
cifar_dessilbi = replace(vgg_bn, optimizer="dessilbi", lr=0.04, mu=500, probes=("path",))
cifar_adam = replace(cifar_dessilbi, optimizer="dessilbi_adam", momentum=0)

SECTION_3_2 = {
    "MNIST": {
        "with Adam": mnist_adam,
        "without": mnist_dessilbi,
        "without, as stated": mnist_stated,
        "without, warm-up": mnist_warm,
        "plain SGD": mnist_sgd,
    },
    "CIFAR-10": {
        "with Adam": cifar_adam,
        "with Adam, usual rate 1e-3": replace(cifar_adam, lr=1e-3),
        "without": cifar_dessilbi,
        "plain SGD": vgg_bn,
        "plain Adam, usual rate 1e-3": adam_on_vgg,
    },
}

# ------------------------------------------------------------------------------------------ how the report is read

told_apart = {  # rows of section 1 by which the candidates differ most
    "no batch norm": SECTION_1["1.2 batch norm"]["without"],
    "batch norm, no dropout": base,
    "dropout 0.3": dropped,
    "tanh": SECTION_1["1.6 activation"]["tanh"],
    "Adam": SECTION_1["1.5 optimizer"]["Adam"],
    "RMSprop": SECTION_1["1.5 optimizer"]["RMSprop"],
    "best model": best,
}

SECTION_READINGS = {
    "MyNet's rate": tried(basic_rate, told_apart, ("0.01",)),
    "MyNet's batch norm": tried(
        basic_norm,
        {label: basic_rate.by("0.01", told_apart[label]) for label in ("tanh", "Adam", "best model")},
        ("batch norm not applied",),
    ),
    "MyResNet9's cycle": tried(cycle, {"final": final}, ("momentum cycles too", "ends at the low rate")),
    "VGG-A's terms": tried(starter_terms, {"VGG-A": vgg, "VGG-A + BN": vgg_bn}, ("starter code, SGD 0.01",)),
    "DessiLBI's rate": tried(sparse_rate, {"DessiLBI": mnist_stated}, tuple(sparse_rate.candidates)[1:]),
    "DessiLBI on CIFAR-10": tried(
        starter_sparse, {"with Adam": cifar_adam, "without": cifar_dessilbi}, tuple(starter_sparse.candidates)[2:]
    ),
    "SGD after pretraining": tried(sparse_momentum, {"SGD": mnist_sgd_stated}),
}

SECTIONS: dict[str, dict[str, dict[str, Run]]] = {
    "1": SECTION_1, "1.9": SECTION_1_9, "2": SECTION_2, "3.1": SECTION_3_1, "3.2": SECTION_3_2,
    "readings": SECTION_READINGS,
}  # fmt: skip
