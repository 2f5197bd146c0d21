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
            view.grad = None if parameter.grad is None else as_rows(parameter.grad)

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        for parameter in self._parameters:
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.zero_()


class SGD(_OverRows, torch.optim.SGD):
    """torch's SGD over all `parameters` of a model, in one group."""


class Adam(_OverRows, torch.optim.Adam):
    """torch's Adam over all `parameters` of a model, in one group."""
