"""torch's SGD and Adam over a model whose weights lie channels-last. Their fused steps would first copy each gradient;
here they are handed weights and gradients as the rows that these are in memory."""

import torch
from torch import nn

from helpers.dessilbi import as_rows


class _OverRows(torch.optim.Optimizer):
    """Makes an optimizer of torch see channels-last weights as `as_rows` gives them. Its steps stay the same, bit for
    bit; its groups and state hold views of the weights."""

    def __init__(self, parameters, **options):
        self._parameters = list(parameters)
        super().__init__([nn.Parameter(as_rows(each.detach())) for each in self._parameters], **options)
        self.register_step_pre_hook(_OverRows._take_gradients)

    def _take_gradients(self, *_) -> None:
        for view, parameter in zip(self.param_groups[0]["params"], self._parameters):
            view.grad = None if parameter.grad is None else _laid_as(view, parameter, parameter.grad)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Lets go of all gradients; none is kept to be filled with zeros."""
        for parameter in (*self.param_groups[0]["params"], *self._parameters):
            parameter.grad = None

    def load_state_dict(self, state_dict: dict) -> None:
        """Goes on from a state of its own or of torch's. Raises ValueError for one that isn't of these parameters:
        torch's fused steps compare no sizes, and would write past its end."""
        for place, (view, parameter) in enumerate(zip(self.param_groups[0]["params"], self._parameters)):
            for name, value in state_dict["state"].get(place, {}).items():
                if not _fits(name, value, view):
                    shape = list(value.shape) if torch.is_tensor(value) else value
                    raise ValueError(f"the state's {name} {shape} isn't that of parameter {place} "
                                     f"{list(parameter.shape)}: it is of another model or layout")  # fmt: skip
        super().load_state_dict(state_dict)


def _laid_as(view: torch.Tensor, parameter: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """The parameter's gradient in the order of its view. torch's fused steps go through memory and look at no strides:
    a gradient that lies otherwise, as none of autograd's does, is copied."""
    if view.stride() != parameter.stride():
        gradient = gradient.permute(0, 2, 3, 1)
    alike = view.is_contiguous() and gradient.is_contiguous() or view.stride() == gradient.stride()
    return gradient if alike else torch.empty_like(view).copy_(gradient)


def _fits(name: str, value, view: torch.Tensor) -> bool:
    """Whether a fused step can go through a state's value number by number as it does through `view`."""
    if not torch.is_tensor(value):
        return value is None or name == "step"
    if name == "step":
        return value.numel() == 1
    rows = as_rows(value)
    return rows.shape == view.shape and rows.is_contiguous()


class SGD(_OverRows, torch.optim.SGD):
    """torch's SGD over all `parameters` of a model, in one group."""


class Adam(_OverRows, torch.optim.Adam):
    """torch's Adam over all `parameters` of a model, in one group."""
