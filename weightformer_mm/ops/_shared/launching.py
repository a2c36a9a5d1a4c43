"""What launchers of Triton kernels share across operations; only the kernels import Triton itself.

Blocks and grids depend only on the shapes: nothing is tuned at run time.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Run a Triton kernel with ``grid`` programs along each axis; nothing if there is no program."""
    if 0 not in grid:
        kernel[grid](*arguments, **constants)


def contiguous(tensor: Tensor | None) -> Tensor | None:
    """What a kernel can read that knows no strides."""
    return None if tensor is None else tensor.contiguous()


def cdiv(size: int, block: int) -> int:
    """Number of blocks that cover ``size``."""
    return -(-size // block)


def next_power_of_two(size: int) -> int:
    """The smallest power of two that is at least ``size``."""
    return 1 << (size - 1).bit_length()


def channel_block(channels: int) -> int:
    """Channels of a tile: among the blocks with the fewest idle channels, the widest."""
    return min((128, 64, 32), key=lambda block: -(-channels // block) * block)
