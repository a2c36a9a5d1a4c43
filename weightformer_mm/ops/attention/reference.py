"""Attention written as an MLP, in plain PyTorch."""

from __future__ import annotations

from torch import Tensor


def attention_as_mlp(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """``softmax(Q W1) W2`` with ``W1 = Kᵀ / √d (..., d, N)`` and ``W2 = V``: one hidden unit per token."""
    weight1 = key.transpose(-1, -2) * key.shape[-1] ** -0.5
    return (query @ weight1).softmax(dim=-1) @ value
