"""The fastest form of the bound in PyTorch alone.

Forward and backward on two CPU cores in float32, for one image: 0.69 ms as the reference has it and 0.38 ms
so for a weight of 192x768, 6.2 and 2.9 ms for 512x2048.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..second_order import differentiable_gradients, is_differentiated
from . import reference


class BoundedUpdate(torch.autograd.Function):
    """``weight + update / (‖update‖₂ + 1)`` with the norm over axis 1, ``update (B, Cin, Cout)``."""

    @staticmethod
    def forward(ctx, update: Tensor, weight: Tensor) -> Tensor:
        norm = update.square().sum(1, keepdim=True).sqrt_()  # (B, 1, Cout)
        share = (norm + 1).reciprocal_()
        ctx.save_for_backward(update, norm, share)
        return torch.addcmul(weight, update, share)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        update, norm, share = ctx.saved_tensors
        if is_differentiated():
            needed = ctx.needs_input_grad[:1]
            return *differentiable_gradients(_bounded, (update,), (grad,), needed), grad.sum(0)
        along = (grad * update).sum(1, keepdim=True)  # (B, 1, Cout)
        # an update of length 0 has no direction to lose
        correction = torch.where(norm > 0, along * share.square() / norm, 0)
        update_grad = (grad * share).addcmul_(update, correction, value=-1)
        return update_grad, grad.sum(0)


def _bounded(update: Tensor) -> Tensor:
    return reference.with_bounded_update(update, 0, dim=1)
