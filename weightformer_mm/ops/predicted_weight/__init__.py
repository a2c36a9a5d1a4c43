"""A linear layer whose weight is predicted from the input (arXiv 2605.01711, DynamicLinear).

Feature maps are channels-last, ``(B, H, W, C)``; ``N = H * W`` tokens; ``r`` is the predictor's reduction.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..backend import choose_backend
from ..checks import check_map
from ..compat import is_traced, keeps_operators
from ..precision import at_least_float32
from . import autograd, reference
from .compiled import pool_tokens_whole
from .eager import BoundedUpdate

__all__ = [
    'bilateral_update',
    'pool_tokens',
    'predicted_linear',
    'token_correlation',
    'with_bounded_update',
]


@at_least_float32
def _with_bounded_update(update: Tensor, weight: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    if is_traced() or dim != 1 or update.ndim != 3:
        return reference.with_bounded_update(update, weight, dim)
    return BoundedUpdate.apply(update, weight)


def _pool_tokens(x: Tensor) -> Tensor:
    return pool_tokens_whole(x) if keeps_operators() else reference.pool_tokens(x)


@at_least_float32
def _bilateral_update(x: Tensor, *parameters: Tensor) -> Tensor:
    return reference.update_from_pooled(_pool_tokens(x), x.shape[1] * x.shape[2], *parameters)


def pool_tokens(x: Tensor, backend: str = 'auto') -> Tensor:
    """Average non-overlapping 2x2 windows of tokens.

    An odd last row or column is dropped, as published; a side of length 1 is not pooled (the published
    code fails there).

    Args:
        x: ``(B, H, W, C)``.
        backend: ``'auto'``, ``'torch'`` or ``'triton'``; see `choose_backend`.

    Returns:
        ``(B, max(H//2, 1) * max(W//2, 1), C)``.

    Raises:
        ValueError: if ``x`` is not four-dimensional, or the backend cannot run on it.
    """
    check_map(x)
    if choose_backend(backend, x) == 'triton':
        return autograd.pool_tokens(x, x.dtype)
    return _pool_tokens(x)


@at_least_float32
def token_correlation(left: Tensor, right: Tensor, num_tokens: int) -> Tensor:
    """Mean over tokens of the outer products of two maps, in at least float32.

    Args:
        left: ``(B, Np, P)``.
        right: ``(B, Np, Q)``.
        num_tokens: what the sum is divided by; as published, the tokens *before* pooling.

    Returns:
        ``(B, P, Q)``.

    Raises:
        ValueError: if the two maps do not have the same images and tokens.
    """
    if left.shape[:2] != right.shape[:2]:
        raise ValueError(
            'expected two maps with the same images and tokens, '
            f'got {tuple(left.shape)} and {tuple(right.shape)}'
        )
    return reference.token_correlation(left, right, num_tokens)


def bilateral_update(
    x: Tensor,
    reduce_weight: Tensor,
    reduce_bias: Tensor,
    expand_in: Tensor,
    expand_out: Tensor,
    backend: str = 'auto',
) -> Tensor:
    """Predict a weight update from all tokens with the published ``bilateral`` strategy.

    ``P = pool(x)``; ``A, D = split(SiLU(P Rᵀ + b))``; ``dW = (A E1)ᵀ (D E2) * Cin^-1/2 / N``. The result is
    not yet bounded; see `with_bounded_update`. Computed in at least float32, also under autocast.

    Args:
        x: ``(B, H, W, Cin)``.
        reduce_weight: ``R (Cin//r + Cout//r, Cin)``.
        reduce_bias: ``b (Cin//r + Cout//r,)``.
        expand_in: ``E1 (Cin//r, Cin)``.
        expand_out: ``E2 (Cout//r, Cout)``.
        backend: ``'auto'``, ``'torch'`` or ``'triton'``; see `choose_backend`.

    Returns:
        ``dW (B, Cin, Cout)``, float32 (float64 for float64 inputs).

    Raises:
        ValueError: if the shapes do not fit together, or the backend cannot run on ``x``.
    """
    check_map(x, channels=expand_in.shape[1])
    hidden = expand_in.shape[0] + expand_out.shape[0]
    if tuple(reduce_weight.shape) != (hidden, x.shape[-1]):
        raise ValueError(
            f'expected reduce_weight of shape {(hidden, x.shape[-1])}, got {tuple(reduce_weight.shape)}'
        )
    parameters = (reduce_weight, reduce_bias, expand_in, expand_out)
    # asked of x as it comes: the kernels read half precision and add in float32, without a converted copy
    if choose_backend(backend, x) == 'triton':
        return autograd.bilateral_update(x, *parameters)
    return _bilateral_update(x, *parameters)


def with_bounded_update(
    update: Tensor,
    weight: Tensor,
    dim: int | tuple[int, ...],
    dtype: torch.dtype | None = None,
    backend: str = 'auto',
) -> Tensor:
    """Add a predicted update to a static weight: ``weight + update / (‖update‖₂ + 1)``.

    Args:
        update: ``(B, *weight.shape)``.
        weight: the static weight.
        dim: axes of ``update`` over which the norm is taken.
        dtype: of the result, such as that of the product it is for; by default at least float32.
        backend: ``'auto'``, ``'torch'`` or ``'triton'``; see `choose_backend`.

    Returns:
        One weight per image, ``(B, *weight.shape)``; computed in at least float32 and rounded once.

    Raises:
        ValueError: if ``update`` is not ``weight`` with a batch axis in front, or the backend cannot run.
    """
    if update.shape[1:] != weight.shape:
        raise ValueError(
            f'expected an update of shape (B, {", ".join(map(str, weight.shape))}), got {tuple(update.shape)}'
        )
    if choose_backend(backend, update) == 'triton':
        return autograd.with_bounded_update(update, weight, dim, dtype or torch.float32)
    result = _with_bounded_update(update, weight, dim)
    return result if dtype is None else result.to(dtype)


def predicted_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply one linear layer per image: ``y = x weight + bias``.

    Args:
        x: ``(B, H, W, Cin)``.
        weight: ``(B, Cin, Cout)``; converted once to the data type of the product.
        bias: ``(Cout,)``.

    Returns:
        ``(B, H, W, Cout)``.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    check_map(x, channels=weight.shape[1])
    if weight.shape[0] != x.shape[0]:
        raise ValueError(
            f'expected one weight per image, got {weight.shape[0]} for {x.shape[0]} images'
        )
    return reference.predicted_linear(x, weight, bias)
