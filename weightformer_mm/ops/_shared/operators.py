"""Turn a function into a PyTorch operator: differentiable, and kept whole by ``torch.compile``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .compat import HAS_CUSTOM_OPS
from .dispatch import is_transformed
from .second_order import differentiable_gradients, is_differentiated

NAMESPACE = 'weightformer_mm'
_SAVED = object()  # stands for a tensor, which autograd keeps


def operator(
    schema: str,
    fake: Callable[..., Any],
    gradient: Callable[..., Any] | None = None,
    reference: Callable[..., Any] | None = None,
    keeps: Sequence[int] = (),
) -> Callable[[Callable], Callable]:
    """Decorator that turns a function on tensors into the operator ``weightformer_mm::<name>``.

    It takes only positional arguments, and autocast does not change them. torch < 2.4 has no custom
    operators; there the function stays unchanged, and nothing calls it.

    Args:
        schema: name and types, ``'name(Tensor x, float eps) -> Tensor'``; the first argument is a tensor, and
            the operator writes to none.
        fake: takes the same arguments and returns outputs of the right shapes and types, without values.
        gradient: called with ``(needed, arguments, kept, *grads)``, returns one gradient per argument.
            ``needed`` says which are needed; the gradient of an output may be None.
        reference: the same function in plain PyTorch, for gradients that will be differentiated.
        keeps: indices of the outputs that ``gradient`` is given as ``kept``.
    """
    name, _, signature = schema.partition('(')

    def register(launcher: Callable) -> Callable:
        if not HAS_CUSTOM_OPS:
            return launcher

        @functools.wraps(launcher)
        def function(first: Tensor, *rest: Any) -> Any:
            # happens in a compiled graph, which would silently drop the derivatives
            if is_transformed():
                raise RuntimeError(
                    f'{NAMESPACE}::{name} takes part in neither torch.func nor forward-mode derivatives; '
                    'run the network without torch.compile'
                )
            with torch.cuda.device_of(first):  # Triton launches on the current GPU
                return launcher(first, *rest)

        made = torch.library.custom_op(
            f'{NAMESPACE}::{name}', function, mutates_args=(), schema=f'({signature}'
        )
        made.register_fake(fake)
        if gradient is not None:
            setup_context, backward = _autograd(gradient, reference, keeps)
            made.register_autograd(backward, setup_context=setup_context)
        return made

    return register


def _autograd(gradient, reference, keeps) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The functions that autograd calls after an operator, and for its gradients."""

    def setup_context(ctx, inputs, output):
        outputs = output if isinstance(output, tuple) else (output,)
        tensors = [value for value in inputs if isinstance(value, Tensor)]
        ctx.save_for_backward(*tensors, *(outputs[index] for index in keeps))
        ctx.arguments = [_SAVED if isinstance(value, Tensor) else value for value in inputs]
        ctx.set_materialize_grads(False)

    def backward(ctx, *grads):
        if all(grad is None for grad in grads):
            return (None,) * len(ctx.arguments)
        saved = iter(ctx.saved_tensors)
        arguments = [next(saved) if value is _SAVED else value for value in ctx.arguments]
        if is_differentiated():
            return differentiable_gradients(reference, arguments, grads, ctx.needs_input_grad)
        return gradient(ctx.needs_input_grad, arguments, tuple(saved), *grads)

    return setup_context, backward
