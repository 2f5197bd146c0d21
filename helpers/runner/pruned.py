"""What the records of section 3.1 say of a LeNet with part of its filters or weights set to zero: accuracies, and the
order that elimination gives. For chains alone, whose first layers need to be gone through only once."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from helpers import models, pruning


@torch.no_grad()
def elimination_order(model: nn.Module, name: str, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """How much each filter of the convolution `name` is worth keeping, as `pruning.pruning_order` has it: {name: (F,)}.

    Backward elimination: of the filters that are left, that one goes next without which the loss on `images`, (N, C, H,
    W) as the model takes them, is lowest. It looks at what filters do, and so sees which do what others do as well.
    Raises ValueError for a layer that is no convolution of the chain.
    """
    stages, layer = _stages(model), dict(model.named_modules()).get(name)
    places = [i for i, stage in enumerate(stages) if stage is layer and isinstance(stage, nn.Conv2d)]
    if not places:
        raise ValueError(f"{name!r} is no convolution of the chain: its units can't be eliminated one by one")
    with models.keeping_modes(model):
        model.eval()
        outputs = nn.Sequential(*stages[: places[0] + 1])(images)
        rest = nn.Sequential(*stages[places[0] + 1 :])
        kept, order = outputs.new_ones(outputs.shape[1]), torch.empty(outputs.shape[1])
        for rank in range(len(kept)):
            losses = torch.full_like(kept, torch.inf)
            for unit in kept.nonzero()[:, 0]:
                without = kept.index_fill(0, unit, 0)
                losses[unit] = nn.functional.cross_entropy(rest(outputs * without[:, None, None]), labels)
            gone = losses.argmin()
            order[gone], kept[gone] = rank, 0
    return {name: order}


@torch.no_grad()
def pruned_accuracies(model, order, fractions, names, images: Tensor, labels: Tensor) -> Tensor:
    """Accuracy of `model` with each of `fractions` of the layers `names` pruned: (len(fractions),).

    `images` (N, C, H, W) as the model takes them. What lies before the first pruned layer is computed only once.
    Raises ValueError for a layer that is not of the chain, or none at all.
    """
    stages, modules = _stages(model), dict(model.named_modules())
    places = {name: i for name, module in modules.items() for i, stage in enumerate(stages) if stage is module}
    if not names or not set(names) <= set(places):
        raise ValueError(f"layers {list(names)} are not allowed: give one at least of {', '.join(places)}")
    first = min(places[name] for name in names)
    parts, accuracies = images.split(1000), []
    with models.keeping_modes(model):
        model.eval()
        for stage in stages[:first]:
            parts = [stage(part) for part in parts]
        for fraction in fractions:
            tail = nn.Sequential(*_stages(pruning.prune(model, order, fraction, names))[first:])
            outputs = torch.cat([tail(part) for part in parts])
            accuracies.append((outputs.argmax(1) == labels).double().mean())
    return torch.stack(accuracies).cpu()


def _stages(model: nn.Module) -> list[nn.Module]:
    """The layers of a chain, in the order in which they are gone through. Raises ValueError for any other model."""
    pruning.refuse_lazy(model)
    if isinstance(model, nn.Sequential):
        return [*model]
    if not all(isinstance(getattr(model, part, None), nn.Sequential) for part in ("features", "classifier")):
        raise ValueError(f"a {type(model).__name__} is no chain: give a Sequential, or a model of features, classifier")
    return [*model.features, *model.classifier]


def shuffled(kept: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Masks with as many filters or weights kept in each layer, but drawn by lot."""
    generator = torch.Generator().manual_seed(seed)
    return {name: mask.flatten()[torch.randperm(mask.numel(), generator=generator)].view_as(mask)
            for name, mask in kept.items()}  # fmt: skip
