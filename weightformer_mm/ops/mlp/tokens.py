"""The tokens of a map as rows of a matrix."""

from __future__ import annotations

import torch
from torch import Tensor


def rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])  # (B * H * W, C)


def row_scale(scale: Tensor | None, x: Tensor, dtype: torch.dtype) -> Tensor | None:
    """The scale ``(B,)`` of each image of ``x`` for each of its tokens, ``(B * H * W, 1)``."""
    if scale is None:
        return None
    return scale.to(dtype).repeat_interleave(x.shape[1] * x.shape[2]).unsqueeze(1)
