"""Attention, seen as a two-layer MLP whose weights are predicted from the input (arXiv 2605.01711)."""

from __future__ import annotations

from torch import Tensor

from . import reference

__all__ = ['attention_as_mlp']


def attention_as_mlp(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """``scaled_dot_product_attention`` as an MLP on each query: weight ``Kᵀ / √d``, softmax, weight ``V``.

    Both weights are predicted from the input and grow with the number of tokens ``N``, hence the cost
    ``O(N²)``. The dynamic layers predict weights of a fixed size.

    ``query (..., M, d)``, ``key (..., N, d)`` and ``value (..., N, e)`` give ``(..., M, e)``; a ValueError if
    their shapes do not match.
    """
    if query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        raise ValueError(
            'expected query (..., M, d), key (..., N, d) and value (..., N, e), got '
            f'{tuple(query.shape)}, {tuple(key.shape)} and {tuple(value.shape)}'
        )
    return reference.attention_as_mlp(query, key, value)
