"""Turning a function into an operator of PyTorch: differentiable, and kept whole by ``torch.compile``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .compat import HAS_CUSTOM_OPS

NAMESPACE = 'weightformer_mm'


def operator(
    schema: str,
    fake: Callable[..., Any],
    setup_context: Callable[..., None] | None = None,
    backward: Callable[..., Any] | None = None,
) -> Callable[[Callable], Callable]:
    """Decorate a function on tensors to become the operator ``weightformer_mm::<name>``.

    With torch >= 2.4 it is a custom operator, otherwise an autograd Function. Either way it takes positional
    arguments only, and autocast changes none of them.

    Args:
        schema: name and types, ``'name(Tensor x, float eps) -> Tensor'``; the first is a tensor, and none is
            written to.
        fake: takes the same arguments and gives outputs of the right shapes and types, without values.
        setup_context: ``(ctx, inputs, output)``, saves what the gradient needs.
        backward: ``(ctx, *grads)``, gives one gradient per argument.
    """
    name, _, signature = schema.partition('(')

    def register(launcher: Callable) -> Callable:
        @functools.wraps(launcher)
        def function(first: Tensor, *rest: Any) -> Any:
            with torch.cuda.device_of(first):  # Triton launches on the current GPU
                return launcher(first, *rest)

        if not HAS_CUSTOM_OPS:
            return _autograd_function(name, function, setup_context, backward)
        made = torch.library.custom_op(
            f'{NAMESPACE}::{name}', function, mutates_args=(), schema=f'({signature}'
        )
        made.register_fake(fake)
        if backward is not None:
            made.register_autograd(backward, setup_context=setup_context)
        return made

    return register


def _autograd_function(name, function, setup_context, backward) -> Callable:
    if backward is None:
        return function
    methods = {
        'forward': function,
        'setup_context': setup_context,
        'backward': once_differentiable(backward),
    }
    static = {key: staticmethod(method) for key, method in methods.items()}
    return type(name, (torch.autograd.Function,), static).apply
