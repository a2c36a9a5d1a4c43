"""Shape checks shared by the public functions."""

from __future__ import annotations

from torch import Tensor


def check_map(x: Tensor, channels: int | None = None) -> None:
    """Raise a ValueError unless ``x`` is ``(B, H, W, C)``, with ``C == channels`` if that is given."""
    if x.ndim != 4:
        raise ValueError(f'expected a feature map (B, H, W, C), got shape {tuple(x.shape)}')
    if channels is not None and x.shape[-1] != channels:
        raise ValueError(
            f'expected {channels} channels in the last axis, got shape {tuple(x.shape)}'
        )
