"""What the report leaves open, and how it is read: for each open setting its words, the candidates, and the one chosen.
The tables build their runs from it, so a reading is switched in one line here. Nothing is trained or read here."""

from typing import Any, NamedTuple

from helpers.experiments.run import BELONGS, Constant, Cyclic, Exponential, Run, Steps, replace

PER_EPOCH_OF_50, PER_EPOCH_OF_30 = 1 / 50, 1 / 30  # the share of a run that an epoch is


class Reading(NamedTuple):
    """An open setting: `says`, the report's words and where they stand; `candidates`, name → what it sets of a Run, and
    of what it doesn't set, as stated."""

    says: str
    candidates: dict[str, dict[str, Any]]
    chosen: str

    def __call__(self, run: Run) -> Run:
        """`run` by the chosen candidate."""
        return self.by(self.chosen, run)

    def by(self, candidate: str, run: Run) -> Run:
        """`run` by the named candidate, whatever it is read by; without what its optimizer does not have."""
        changes = self.candidates[AS_STATED] | self.candidates[candidate]
        return replace(run, **{name: value for name, value in changes.items()
                               if run.optimizer in BELONGS.get(name, (run.optimizer,))})  # fmt: skip


AS_STATED = "as stated"

# PyTorch's basic MNIST example, parts of which section 1 uses (negative log-likelihood of a log-softmax, dropout,
# batches of 64), multiplies the rate by 0.7 after each epoch; its older form has rate 0.01 and momentum 0.5.
falling = Exponential(factor=0.7, every=PER_EPOCH_OF_50)
basic_rate = Reading(
    says="“initial learning rate 0.1”, no momentum named, “some optimizers did not converge” (1.5)",
    candidates={
        AS_STATED: {"lr": 0.1, "momentum": 0.5, "schedule": Constant()},
        "0.1, no momentum": {"momentum": 0},
        "0.1, momentum 0.9": {"momentum": 0.9},
        "0.1 × 0.7 an epoch": {"schedule": falling},
        "0.1 × 0.7 an epoch, no momentum": {"schedule": falling, "momentum": 0},
        "0.1 × 0.7 an epoch, momentum 0.9": {"schedule": falling, "momentum": 0.9},
        "0.01": {"lr": 0.01},
        "0.01, momentum 0.9": {"lr": 0.01, "momentum": 0.9},
        "0.001, momentum 0.9": {"lr": 0.001, "momentum": 0.9},
        # In 1.2 it brings 0.2 points and costs 0.7 % of the time: as if its layers were made, counted and never called.
        "0.01, batch norm not applied": {"lr": 0.01, "batch_norm": False},
        # Normalisation is first named in 1.9, with augmentation.
        "0.01, images in [0, 1]": {"lr": 0.01, "normalize": False},
    },
    chosen=AS_STATED,
)

# torch.optim.lr_scheduler.CyclicLR has cycle_momentum=True unless told otherwise: momentum falls from 0.9 to 0.8 while
# the rate rises.
cycle = Reading(
    says="“cyclic 0.01–0.04, changed every batch”; “accuracy levels off, loss falls fast, then rises slightly”",
    candidates={
        AS_STATED: {"schedule": Cyclic(high=0.04)},
        "momentum cycles too": {"schedule": Cyclic(high=0.04, low_momentum=0.8)},
        "ends at the low rate": {"schedule": Cyclic(high=0.04, up=1 / 16, down=1 / 16)},
        "shrinking": {"schedule": Cyclic(high=0.04, shrink=0.5)},
    },
    chosen=AS_STATED,
)

# Starter code that many students of one course have published: all 50,000 images, scaled to [−1, 1], the test set as
# validation set, Xavier-normal weights and zero biases.
plain_terms = {"validation": "held_out", "normalize": True, "init": "kaiming"}
starter = {"validation": "test", "normalize": "symmetric", "init": "xavier"}
starter_terms = Reading(
    says="VGG-A on CIFAR-10, no rate, momentum or initialisation named (2.1)",
    candidates={
        AS_STATED: {**plain_terms, "optimizer": "sgd", "momentum": 0.9, "lr": 0.01},
        "starter code, SGD 0.01": starter,
        "starter code, SGD 0.01, no momentum": {**starter, "momentum": 0},
        "starter code, SGD 0.1, no momentum": {**starter, "momentum": 0, "lr": 0.1},
        "starter code, Adam 1e-3": {**starter, "optimizer": "adam", "momentum": 0, "lr": 1e-3},
    },
    chosen=AS_STATED,
)
starter_sparse = Reading(
    says="lr .04, κ 1, μ 500, VGG-A with batch norm; neither epochs nor batch named (3.2)",
    candidates={
        AS_STATED: {**plain_terms, "lr": 0.04},
        "starter code": starter,
        "starter code, rate of the epoch after pretraining": {**starter, "lr": 0.004},
    },
    chosen=AS_STATED,
)

# The authors' example computes the rate from the number of the epoch, lr · 0.1^(epoch // 20), and a model that was
# pretrained for 20 epochs goes on with the epoch 20. Without the rounding the rate falls a little each epoch.
later = {"lr": 0.01}
smooth = {"lr": 0.01, "schedule": Exponential(factor=0.1 ** (1 / 20), every=PER_EPOCH_OF_30)}
sparse_momentum = Reading(
    says="“SGD, lr 0.04”, no momentum named (3.1); where the report names one it starts from 0.5 (1.9)",
    candidates={AS_STATED: {"momentum": 0.9}, "momentum 0.5": {"momentum": 0.5}},
    chosen="momentum 0.5",
)
sparse_rate = Reading(
    says="“0.1 for 20 epochs, then 0.01”, from a model pretrained for 20; “the learning rate is too small” (3.1)",
    candidates={
        AS_STATED: {"lr": 0.1, "momentum": 0.9, "schedule": Steps(at=(2 / 3,), factor=0.1), "validation": "held_out"},
        "counted on from pretraining": later,
        "counted on, momentum 0.5": {**later, "momentum": 0.5},
        "counted on, no momentum": {**later, "momentum": 0},
        "counted on, not rounded": smooth,
        "counted on, not rounded, momentum 0.5": {**smooth, "momentum": 0.5},
        "counted on, not rounded, no momentum": {**smooth, "momentum": 0},
        "0.01, then 0.001, all 60,000 images": {**later, "validation": "test"},
        "0.1, no momentum": {"momentum": 0},
    },
    chosen="counted on, not rounded, momentum 0.5",
)
