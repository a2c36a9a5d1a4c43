"""Turn a launcher into a differentiable function, which ``torch.compile`` keeps whole as an operator."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from .compat import HAS_CUSTOM_OPS, is_compiling
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
    """Decorator that makes a launcher differentiable, and the operator ``weightformer_mm::<name>`` of it.

    It takes only positional arguments, and autocast does not change them. Only compilers and counters meet
    the operator, the attribute ``operator`` of the result: otherwise the launcher runs at once, since PyTorch
    takes longer for an operator than a GPU for a small map. torch < 2.4 has no operators.

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
        @functools.wraps(launcher)
        def launch(first: Tensor, *rest: Any) -> Any:
            _refuse_transforms(
                name
            )  # in a compiled graph, too, which would silently drop derivatives
            with _device_of(first):
                return launcher(first, *rest)

        setup_context, backward = _autograd(gradient, reference, keeps)
        eager = _autograd_function(name, launch, setup_context, backward) if gradient else None

        made: Any = None

        @functools.wraps(launcher)
        def function(*arguments: Any) -> Any:
            if HAS_CUSTOM_OPS and (is_compiling() or torch._C._len_torch_dispatch_stack()):
                return made(*arguments)
            if eager is not None and torch.is_grad_enabled():
                _refuse_transforms(name)
                return eager.apply(*arguments)
            return launch(*arguments)

        if HAS_CUSTOM_OPS:
            made = torch.library.custom_op(
                f'{NAMESPACE}::{name}', launch, mutates_args=(), schema=f'({signature}'
            )
            made.register_fake(fake)
            if gradient is not None:
                made.register_autograd(backward, setup_context=setup_context)
        function.__dict__['operator'] = made
        return function

    return register


def _refuse_transforms(name: str) -> None:
    if is_transformed():
        raise RuntimeError(
            f'{NAMESPACE}::{name} takes part in neither torch.func nor forward-mode derivatives; '
            'run the network without torch.compile'
        )


def _device_of(tensor: Tensor) -> AbstractContextManager:
    """Triton launches on the current GPU, which is the tensor's if there is only one."""
    if tensor.is_cuda and torch.cuda.device_count() > 1:
        return torch.cuda.device_of(tensor)
    return contextlib.nullcontext()


def _autograd_function(
    name: str, launch: Callable, setup_context: Callable, backward: Callable
) -> type[torch.autograd.Function]:
    """The same for code that is not compiled; here, outputs are known when the context is set up."""

    def forward(ctx: Any, *arguments: Any) -> Any:
        outputs = launch(*arguments)
        setup_context(ctx, arguments, outputs)
        return outputs

    methods = {'forward': staticmethod(forward), 'backward': staticmethod(backward)}
    return type(name, (torch.autograd.Function,), methods)


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
