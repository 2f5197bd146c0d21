"""What pruning is worth: size and speed of a network with most of its filters cut out, against the whole one. The
networks are untrained, which changes neither; what pruning costs in accuracy is in the notebooks."""

import functools

import torch

from benchmarks import measure
from helpers import models, pruning

FRACTIONS = (0.6, 0.8, 0.9)
BATCH_SIZE = 128
# network → shape of an image, and the layers that are pruned: conv3, as in section 3.1; all convolutions
CASES = {"LeNet": ((1, 28, 28), ("features.conv3",)), "VGG": ((3, 32, 32), None)}


def smaller(network: str) -> dict[str, torch.nn.Module]:
    """The whole network and, by the share of filters cut out of its layers, the smaller ones, in evaluation mode."""
    torch.manual_seed(0)
    model, names = models.build(network).eval(), CASES[network][1]
    order, example = pruning.pruning_order(model), torch.rand(1, *CASES[network][0])
    names = names or [name for name in order if name.startswith("features")]
    cut = {f"{fraction:.0%} cut": pruning.compact(pruning.prune(model, order, fraction, names), example)
           for fraction in FRACTIONS}  # fmt: skip
    return {"whole": model, **cut}


def pruned(network: str, repeats: int) -> dict:
    """Images a second in evaluation mode, float32, one thread, with parameters and multiply-adds of each network."""
    torch.set_num_threads(1)
    shape, networks = CASES[network][0], smaller(network)
    images = torch.randn(BATCH_SIZE, *shape)
    calls = {name: torch.no_grad()(functools.partial(model, images)) for name, model in networks.items()}
    seconds = measure.in_turn(calls, repeats)
    return {
        "batch_size": BATCH_SIZE,
        "networks": {name: {"parameters": models.count_parameters(model),
                            "multiply_adds_an_image": pruning.multiply_adds(model, images[:1]),
                            "images_a_second": BATCH_SIZE / min(seconds[name]),
                            "spread": measure.summary(seconds[name])["spread"]}
                     for name, model in networks.items()},
        "times_as_fast": {name: min(seconds["whole"]) / min(each) for name, each in seconds.items()},
    }  # fmt: skip


PARTS = {f"pruned {network}": functools.partial(pruned, network) for network in CASES}
