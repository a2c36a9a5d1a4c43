"""Gradients that will be differentiated again, for operations with a hand-written backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .dispatch import without_autocast


def is_differentiated() -> bool:
    """Whether the gradients that a backward pass computes now will be differentiated.

    ``once_differentiable`` checks only the incoming gradient: if that is a constant, it returns constants
    without an error.
    """
    return torch.is_grad_enabled()


def differentiable_gradients(
    reference: Callable[..., Any],
    arguments: Sequence[Any],
    grads: Sequence[Tensor | None],
    needed: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Gradients of a function, by plain operations that autograd follows; None where not ``needed``.

    ``reference`` is the function in plain PyTorch, with one output or several; it runs without autocast. Its
    first argument is a tensor. ``grads`` may be longer than the outputs, and has None for an output that
    nothing depends on.
    """
    # with respect to views of its own: one argument may have been computed from another
    own = [value.view_as(value) if isinstance(value, Tensor) else value for value in arguments]
    with without_autocast(own[0].device.type):
        outputs = reference(*own)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    reached = [(output, grad) for output, grad in zip(outputs, grads) if grad is not None]
    wanted = [value for value, needs in zip(own, needed) if needs]
    if not reached or not wanted:
        return (None,) * len(own)
    outputs, grads = zip(*reached)
    found = iter(torch.autograd.grad(outputs, wanted, grads, create_graph=True, allow_unused=True))
    return tuple(next(found) if needs else None for needs in needed)
