"""Attention as predicted weights and the MLP that has them, in plain PyTorch."""

from __future__ import annotations

from torch import Tensor


def predicted_weights(key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """The MLP's weights, ``Kᵀ / √d (..., d, N)`` and ``V (..., N, e)``: as many hidden units as tokens."""
    return key.transpose(-1, -2) * key.shape[-1] ** -0.5, value


def mlp(x: Tensor, weight1: Tensor, weight2: Tensor) -> Tensor:
    """``softmax(x W1) W2``: a two-layer MLP with the softmax as its activation."""
    return (x @ weight1).softmax(dim=-1) @ weight2
