"""Triton's form of the ``bilateral`` strategy, in few launches: of the map it keeps only the pooled tokens.

The factor ``Cin^-1/2`` of the update is part of the core.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._shared.launching import cdiv, launch, next_power_of_two
from .._shared.operators import operator
from ..linear.triton import over_images, weight_grad
from . import reference
from .triton import launch_correlation, silu_correlation_backward

MOST_HIDDEN = 256  # of the first side, P: a program holds whole columns of the core
MOST_SPLITS = 16  # whose sum each program of the last kernel computes


def _windows(x: Tensor) -> tuple[int, int, int]:
    """Sides of the windows that are averaged, and their number."""
    height, width = x.shape[1:3]
    rows, columns = reference.pooled_size(height, width)
    return min(2, height), min(2, width), rows * columns


def outputs(x, weight, reduce_weight, reduce_bias, expand_in, expand_out, dtype, learns):
    batch, left, right = len(x), len(expand_in), len(expand_out)
    tokens = _windows(x)[2]
    float32 = dict(dtype=torch.float32)
    return (
        x.new_empty((batch, *weight.shape), dtype=dtype),
        x.new_empty((batch, tokens, x.shape[3]) if learns else (0,), **float32),
        x.new_empty((batch, tokens, left + right), **float32),
        x.new_empty((batch, left, right) if learns else (0,), **float32),
        x.new_empty((batch, *weight.shape) if learns else (0,), **float32),
    )


def reference_weight(
    x, weight, reduce_weight, reduce_bias, expand_in, expand_out, dtype, *learns
) -> Tensor:
    parameters = (value.float() for value in (reduce_weight, reduce_bias, expand_in, expand_out))
    update = reference.bilateral_update(x.float(), *parameters)
    return reference.with_bounded_update(update, weight.float(), dim=1).to(dtype)


def _gradient(needed, arguments, kept, grad, *_):
    *arguments, _, _ = arguments
    return *gradients(*arguments, kept, grad), None, None


def gradients(
    x: Tensor,
    weight: Tensor,
    reduce_weight: Tensor,
    reduce_bias: Tensor,
    expand_in: Tensor,
    expand_out: Tensor,
    kept: Sequence[Tensor],
    grad: Tensor,
    grad_x: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """For ``x``, with ``grad_x`` added, and for the parameters, from that of the predicted weight."""
    pooled, z, core, update = kept
    factor, num_tokens = expand_in.shape[1] ** -0.5, x.shape[1] * x.shape[2]
    grad_weight = grad[0] if len(grad) == 1 else grad.sum(0, dtype=torch.float32)
    grad_left, grad_right, grad_core = expansion_grad(grad, update, core, expand_in, expand_out)
    grad_z = silu_correlation_backward(grad_core, z, len(expand_in), num_tokens, factor)
    grad_reduce, grad_bias = weight_grad(pooled, grad_z, reduce_weight.T[None])
    return (
        pooled_linear_grad(grad_z, reduce_weight, x, grad_x),
        grad_weight.to(weight.dtype),
        grad_reduce[0].T.to(reduce_weight.dtype),
        grad_bias.to(reduce_bias.dtype),
        over_images(grad_left).to(expand_in.dtype),
        over_images(grad_right).to(expand_out.dtype),
    )


@operator(
    'bilateral_expansion_grad(Tensor grad, Tensor update, Tensor core, Tensor expand_in, '
    'Tensor expand_out) -> (Tensor, Tensor, Tensor)',
    lambda grad, update, core, expand_in, expand_out: (
        core.new_empty((len(core), *expand_in.shape)),
        core.new_empty((len(core), *expand_out.shape)),
        core.new_empty(core.shape),
    ),
)
def expansion_grad(
    grad: Tensor, update: Tensor, core: Tensor, expand_in: Tensor, expand_out: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Each image's gradients of ``expand_in``, of ``expand_out`` and of the core; float32."""
    from . import bilateral_kernels as kernels

    (batch, p, q), (channels, columns) = core.shape, update.shape[1:]
    grad_in, grad_out, grad_core = (
        core.new_empty(shape) for shape in ((batch, p, channels), (batch, q, columns), core.shape)
    )
    grad_update, left, right = (core.new_empty((batch, n, columns)) for n in (channels, p, p))
    expand_in, expand_out = expand_in.contiguous(), expand_out.contiguous()
    sizes = {'P': p, 'Q': q, 'C': channels, 'M': columns}
    launch(
        kernels.bilateral_columns_grad_kernel,
        (cdiv(columns, 16), batch),
        *(grad.contiguous(), update, core, expand_in, expand_out),
        *(grad_update, left, right, grad_out),
        **sizes,
        BLOCK_P=max(next_power_of_two(p), 16),
        BLOCK_Q=32,
        BLOCK_C=32,
        BLOCK_M=16,
        num_warps=8,
    )
    launch(
        kernels.bilateral_sides_grad_kernel,
        (cdiv(p, 32) * (cdiv(channels, 32) + cdiv(q, 32)), batch),
        *(left, right, grad_update, expand_out, grad_in, grad_core),
        **sizes,
        BLOCK_P=32,
        BLOCK_N=32,
        BLOCK_M=32,
    )
    return grad_in, grad_out, grad_core


@operator(
    'pooled_linear_grad(Tensor grad, Tensor weight, Tensor x, Tensor? grad_x) -> Tensor',
    lambda grad, weight, x, grad_x: x.new_empty(x.shape),
)
def pooled_linear_grad(grad: Tensor, weight: Tensor, x: Tensor, grad_x: Tensor | None) -> Tensor:
    """The gradient of ``x`` from that of ``pooled x @ weightᵀ``, ``(B, Np, N)``, with ``grad_x`` added."""
    from . import bilateral_kernels as kernels

    out = x.new_empty(x.shape)
    batch, height, width, channels = x.shape
    window_h, window_w, _ = _windows(x)
    windows = cdiv(height, max(window_h, 1)) * cdiv(width, max(window_w, 1))
    launch(
        kernels.pooled_linear_grad_kernel,
        (cdiv(windows, 64) * cdiv(channels, 64), batch),
        *(grad, weight.contiguous(), grad_x, out, height, width),
        C=channels,
        N=len(weight),
        WINDOW_H=window_h,
        WINDOW_W=window_w,
        BLOCK_T=64,
        BLOCK_C=64,
        BLOCK_K=32,
        num_warps=8,
    )
    return out


@operator(
    'bilateral_weight(Tensor x, Tensor weight, Tensor reduce_weight, Tensor reduce_bias, Tensor expand_in, '
    'Tensor expand_out, ScalarType dtype, bool learns) -> (Tensor, Tensor, Tensor, Tensor, Tensor)',
    outputs,
    _gradient,
    reference_weight,
    keeps=(1, 2, 3, 4),
)
def bilateral_weight(
    x, weight, reduce_weight, reduce_bias, expand_in, expand_out, dtype, learns
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return run(
        x.contiguous(), weight, reduce_weight, reduce_bias, expand_in, expand_out, dtype, learns
    )


def run(
    x, weight, reduce_weight, reduce_bias, expand_in, expand_out, dtype, learns
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Weight of each image; and what its gradient reads, which is mostly empty unless ``learns``."""
    out, pooled, z, core, update = outputs(
        x, weight, reduce_weight, reduce_bias, expand_in, expand_out, dtype, learns
    )
    _launch_pooled_linear(x, reduce_weight, reduce_bias, z, pooled if learns else None)
    left, num_tokens = len(expand_in), x.shape[1] * x.shape[2]
    cores = launch_correlation(z, left, expand_in.shape[1] ** -0.5 / max(num_tokens, 1))
    if len(cores) > MOST_SPLITS:
        cores = cores.sum(0, keepdim=True)
    kept = (update, out, core) if learns else (None, out, None)
    _launch_weight(cores, expand_in, expand_out, weight, *kept)
    return out, pooled, z, core, update


def _launch_pooled_linear(x, weight, bias, out, pooled) -> None:
    from . import bilateral_kernels as kernels

    batch, height, width, channels = x.shape
    window_h, window_w, tokens = _windows(x)
    launch(
        kernels.pooled_linear_kernel,
        (cdiv(tokens, 64) * cdiv(len(weight), 64), batch),
        *(x, weight.contiguous(), bias.contiguous(), out, pooled, height, width),
        C=channels,
        N=len(weight),
        WINDOW_H=window_h,
        WINDOW_W=window_w,
        BLOCK_T=64,
        BLOCK_N=64,
        BLOCK_K=32,
        num_warps=8,
    )


def _launch_weight(cores, expand_in, expand_out, weight, update, out, core) -> None:
    from . import bilateral_kernels as kernels

    channels, columns = weight.shape
    splits, batch, left, right = cores.shape
    launch(
        kernels.bilateral_weight_kernel,
        (cdiv(columns, 16), batch),
        *(cores, expand_in.contiguous(), expand_out.contiguous(), weight.contiguous()),
        *(update, out, core, splits),
        P=left,
        Q=right,
        C=channels,
        M=columns,
        BLOCK_P=max(next_power_of_two(left), 16),
        BLOCK_Q=32,
        BLOCK_C=32,
        BLOCK_M=16,
        num_warps=8,
    )
