"""What the launchers of several operations' Triton kernels share; Triton itself is imported by the kernels.

Blocks and grids depend on the shapes alone: nothing is tuned at run time.
"""

from __future__ import annotations

from typing import Any


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Run a Triton kernel with ``grid`` programs along each axis; nothing if there is no program."""
    if 0 not in grid:
        kernel[grid](*arguments, **constants)


def cdiv(size: int, block: int) -> int:
    """Blocks that cover ``size``."""
    return -(-size // block)


def next_power_of_two(size: int) -> int:
    """The smallest power of two that is at least ``size``."""
    return 1 << (size - 1).bit_length()


def channel_block(channels: int) -> int:
    """Channels of a tile: the widest block of those that leave the fewest channels idle."""
    return min((128, 64, 32), key=lambda block: -(-channels // block) * block)
