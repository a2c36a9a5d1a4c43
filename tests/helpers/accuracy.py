"""A kernel is judged by the error that PyTorch makes in the same type, outputs and all gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

FLOAT32 = torch.finfo(torch.float32).eps


def run(function: Callable, arguments: list[Tensor]) -> list[Tensor]:
    """Outputs of ``function`` and its gradients for each argument, from random gradients of the outputs."""
    leaves = [argument.detach().clone().requires_grad_() for argument in arguments]
    outputs = function(*leaves)
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    generator = torch.Generator().manual_seed(1)
    upstream = [torch.randn(output.shape, generator=generator) for output in outputs]
    # exact in every type, so that all runs see the same
    upstream = [grad.to(arguments[0].device).bfloat16().half() for grad in upstream]
    torch.autograd.backward(outputs, [g.to(o.dtype) for g, o in zip(upstream, outputs)])
    return [output.detach() for output in outputs] + [leaf.grad for leaf in leaves]


def check(
    function: Callable,
    arguments: list[Tensor],
    magnitudes: list[float] | None = None,
    cancelled: float = 1.0,
    reordered: Sequence[Callable] = (),
) -> None:
    """Compare the backends of ``function(*arguments, backend=...)`` with PyTorch in float64.

    Each result of ``'triton'`` must have the type of ``'torch'`` and at most twice its error, plus half a
    unit in the last place of the largest element, for one rounding, and two of float32 of ``magnitudes``.

    Args:
        magnitudes: the largest sum of absolute terms behind an element of each result; without it, the
            largest element. Where terms cancel, it is the sum that says how exact a result can be.
        cancelled: what that sum is, without ``magnitudes``, as a multiple of the largest element.
        reordered: the same as ``function``, but for the order of sums; the error of PyTorch is the largest of
            all orders. Where it depends much on the order, one alone says little.
    """
    exact = run(lambda *args: function(*args, backend='torch'), [arg.double() for arg in arguments])
    orders = (function, *reordered)
    eagers = [run(lambda *args, of=of: of(*args, backend='torch'), arguments) for of in orders]
    kernel = run(lambda *args: function(*args, backend='triton'), arguments)
    largest = [float(result.abs().max()) for result in exact]
    sums = magnitudes or [cancelled * element for element in largest]
    for index, (result, others, truth) in enumerate(zip(kernel, zip(*eagers), exact)):
        dtype = others[0].dtype
        assert result.dtype == dtype, f'result {index}: {result.dtype}, not {dtype}'
        assert result.shape == truth.shape, f'result {index}: {result.shape}, not {truth.shape}'
        error, *errors = (float((x.double() - truth).abs().max()) for x in (result, *others))
        allowed = max(errors)
        floor = torch.finfo(result.dtype).eps / 2 * largest[index]
        floor += 2 * FLOAT32 * sums[index]
        assert error <= 2 * allowed + floor, (
            f'result {index}: error {error:.3g}, eager {allowed:.3g}, floor {floor:.3g}'
        )


def magnitudes(function: Callable, arguments: list[Tensor]) -> list[float]:
    """Of each result of a function that is linear in each argument, the largest sum of absolute terms."""
    leaves = [argument.detach().double().abs().requires_grad_() for argument in arguments]
    output = function(*leaves, backend='torch')
    output.backward(torch.full_like(output, 4.0))  # more than a random upstream gradient
    results = [output.detach(), *(leaf.grad for leaf in leaves)]
    return [float(result.abs().max()) for result in results]
