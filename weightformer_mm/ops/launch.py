"""What the launchers of several operations' Triton kernels share."""

from __future__ import annotations


def channel_block(channels: int) -> int:
    """Channels of a tile: the widest block of those that leave the fewest channels idle."""
    return min((128, 64, 32), key=lambda block: -(-channels // block) * block)
