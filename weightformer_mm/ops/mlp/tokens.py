"""The tokens of a map as rows of a matrix."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])  # (B * H * W, C)


def row_scale(scale: Tensor | None, x: Tensor, dtype: torch.dtype) -> Tensor | None:
    """The scale ``(B,)`` of each image of ``x`` for each of its tokens, ``(B * H * W, 1)``."""
    if scale is None:
        return None
    return scale.to(dtype).repeat_interleave(x.shape[1] * x.shape[2]).unsqueeze(1)


def split_rows(x: Tensor, per_image: bool, length: int | None) -> Iterator[tuple[int, slice]]:
    """An image and a slice of the rows of all images that lies in it, of at most ``length`` tokens.

    Without parameters of its own (``per_image``) no image ends a slice, and the number is 0.
    """
    total = x.shape[:3].numel()
    span = total // x.shape[0] if per_image and total else total
    step = length or max(span, 1)
    for first in range(0, total, max(span, 1)):
        for start in range(first, first + span, step):
            yield first // span, slice(start, min(start + step, first + span))
