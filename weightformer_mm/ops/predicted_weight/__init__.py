"""A linear layer whose weight is predicted from the input (arXiv 2605.01711, DynamicLinear).

Feature maps are channels-last, ``(B, H, W, C)``; ``N = H * W`` tokens; ``r`` is the predictor's reduction.
``backend`` is ``'auto'``, ``'torch'`` or ``'triton'``, see `choose_backend`. All functions raise a ValueError
if shapes do not match or the backend cannot run on them.
"""

from __future__ import annotations

from types import ModuleType

from torch import Tensor, float32, is_grad_enabled
from torch import dtype as Dtype

from .._shared.dispatch import check_map, check_shape, choose_backend
from . import bilateral, reference, torch, triton

__all__ = [
    'bilateral_update',
    'bilateral_weight',
    'pool_tokens',
    'predicted_linear',
    'token_correlation',
    'with_bounded_update',
]


def _code(backend: str, x: Tensor, obstacle: str | None = None) -> ModuleType:
    """The module that computes, chosen for ``x`` before any conversion: Triton can read half precision."""
    return triton if choose_backend(backend, x, obstacle) == 'triton' else torch


def pool_tokens(x: Tensor, backend: str = 'auto') -> Tensor:
    """Average 2x2 windows of tokens: ``(B, H, W, C) -> (B, max(H//2, 1) * max(W//2, 1), C)``.

    An odd last row or column is dropped, as published; a side of length 1 is not pooled (the published
    code fails there).
    """
    check_map(x)
    return _code(backend, x).pool_tokens(x)


def token_correlation(left: Tensor, right: Tensor, num_tokens: int) -> Tensor:
    """Mean over tokens of the outer products of two maps, ``(B, Np, P)`` and ``(B, Np, Q)``: ``(B, P, Q)``.

    Computed in at least float32. ``num_tokens``, as published the tokens *before* pooling, divides the sum.
    """
    if left.shape[:2] != right.shape[:2]:
        raise ValueError(
            'expected two maps with the same images and tokens, '
            f'got {tuple(left.shape)} and {tuple(right.shape)}'
        )
    return torch.token_correlation(left, right, num_tokens)


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
    not yet bounded; see `with_bounded_update`.

    Args:
        x: ``(B, H, W, Cin)``.
        reduce_weight: ``R (Cin//r + Cout//r, Cin)``.
        reduce_bias: ``b (Cin//r + Cout//r,)``.
        expand_in: ``E1 (Cin//r, Cin)``.
        expand_out: ``E2 (Cout//r, Cout)``.

    Returns:
        ``dW (B, Cin, Cout)``, float32 (float64 for float64 inputs), even under autocast.
    """
    check_map(x, channels=expand_in.shape[1])
    parameters = (reduce_weight, reduce_bias, expand_in, expand_out)
    _check_hidden(*parameters)
    return _code(backend, x).bilateral_update(x, *parameters)


def bilateral_weight(
    x: Tensor,
    weight: Tensor,
    reduce_weight: Tensor,
    reduce_bias: Tensor,
    expand_in: Tensor,
    expand_out: Tensor,
    dtype: Dtype | None = None,
    backend: str = 'auto',
) -> Tensor:
    """The weight that the published ``bilateral`` strategy predicts: ``weight + dW / (‖dW‖₂ + 1)``.

    Args:
        x, reduce_weight, reduce_bias, expand_in, expand_out: as for `bilateral_update`, which gives ``dW``.
        weight: ``(Cin, Cout)``.
        dtype: data type of the result; by default at least float32.

    Returns:
        ``(B, Cin, Cout)``; computed in at least float32 and rounded once.
    """
    parameters = (reduce_weight, reduce_bias, expand_in, expand_out)
    check_bilateral(x, weight, *parameters)
    if _code(backend, x) is triton and len(expand_in) <= bilateral.MOST_HIDDEN:
        last = dtype or float32, is_grad_enabled()
        return bilateral.bilateral_weight(x, weight, *parameters, *last)[0]
    update = bilateral_update(x, *parameters, backend)
    return with_bounded_update(update, weight, 1, dtype, backend)


def check_bilateral(
    x: Tensor,
    weight: Tensor,
    reduce_weight: Tensor,
    reduce_bias: Tensor,
    expand_in: Tensor,
    expand_out: Tensor,
) -> None:
    """Raise a ValueError unless the shapes are those that `bilateral_weight` takes."""
    check_map(x, channels=expand_in.shape[1])
    _check_hidden(reduce_weight, reduce_bias, expand_in, expand_out)
    check_shape('weight', weight, (expand_in.shape[1], expand_out.shape[1]))


def _check_hidden(
    reduce_weight: Tensor, reduce_bias: Tensor, expand_in: Tensor, expand_out: Tensor
) -> None:
    hidden = expand_in.shape[0] + expand_out.shape[0]
    check_shape('reduce_weight', reduce_weight, (hidden, expand_in.shape[1]))
    check_shape('reduce_bias', reduce_bias, (hidden,))


def with_bounded_update(
    update: Tensor,
    weight: Tensor,
    dim: int | tuple[int, ...],
    dtype: Dtype | None = None,
    backend: str = 'auto',
) -> Tensor:
    """Add a predicted update to a static weight: ``weight + update / (‖update‖₂ + 1)``.

    Args:
        update: ``(B, *weight.shape)``.
        weight: the static weight.
        dim: axes of ``update`` over which the norm is taken.
        dtype: data type of the result, such as that of a later product; by default at least float32.

    Returns:
        One weight per image, ``(B, *weight.shape)``; computed in at least float32 and rounded once.
    """
    if update.shape[1:] != weight.shape:
        raise ValueError(
            f'expected an update of shape (B, {", ".join(map(str, weight.shape))}), got {tuple(update.shape)}'
        )
    other = dim != 1 or update.ndim != 3
    obstacle = 'the Triton kernel takes the norm over axis 1 of (B, Cin, Cout)' if other else None
    return _code(backend, update, obstacle).with_bounded_update(update, weight, dim, dtype)


def predicted_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply one linear layer per image: ``y = x weight + bias``, ``(B, H, W, Cin) -> (B, H, W, Cout)``.

    The weight is ``(B, Cin, Cout)``, converted once to the data type of the product; the bias ``(Cout,)``.
    """
    check_map(x, channels=weight.shape[1])
    if weight.shape[0] != x.shape[0]:
        raise ValueError(
            f'expected one weight per image, got {weight.shape[0]} for {x.shape[0]} images'
        )
    return reference.predicted_linear(x, weight, bias)
