"""How a map ``(B, H, W, C)`` is split among programs.

A program owns a tile of columns and channels and walks down a strip of rows. The split depends on the shape
alone: nothing is tuned at run time, and a sum over tiles is the same to the last bit in every run. The blocks
depend on the number of channels alone, so that no kernel is compiled for a new image size.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

# Elements of a tile and warps of its program: with 4 elements per thread ptxas takes about 100 registers for
# sm_90, with 8 about 150, with which fewer warps fit.
TILE, WARPS = 512, 4
# 64 bytes of a half-precision map, two sectors of the cache; no width of the architectures is padded
BLOCK_C = 32
# Programs that a launch should have at least: some for each of a GPU's 100 to 200 multiprocessors
PROGRAMS = 2048
# A strip reads two rows more than it owns: of 8 rows a quarter, of 64 a thirtieth
FEWEST_ROWS, MOST_ROWS = 8, 64
# Arguments whose values must not lead to another compilation
RUN_TIME = ['height', 'width', 'rows']


@triton.jit
def locate(height, width, channels, rows, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr):
    """This program's image, the first row of its strip, its columns and its channels, which vary fastest."""
    index = tl.program_id(0)
    blocks = tl.cdiv(channels, BLOCK_C)
    channel = (index % blocks) * BLOCK_C + tl.arange(0, BLOCK_C)
    index = index // blocks
    blocks = tl.cdiv(width, BLOCK_W)
    column = (index % blocks) * BLOCK_W + tl.arange(0, BLOCK_W)
    index = index // blocks
    strips = tl.cdiv(height, rows)
    return (index // strips).to(tl.int64), (index % strips) * rows, column, channel


@triton.jit
def load(x, row, low, high, stride, offset, mask):
    """A tile of row ``row``; zeros where ``mask`` is off or the row is outside of ``low <= row < high``."""
    return tl.load(x + row * stride + offset, mask=mask & (row >= low) & (row < high), other=0.0)


def blocks(channels: int) -> tuple[int, int]:
    """Columns and channels of a tile."""
    block_c = min(BLOCK_C, triton.next_power_of_2(channels))
    return TILE // block_c, block_c


def split(x: Tensor, block_w: int, block_c: int) -> tuple[int, int]:
    """Rows of a strip, as many as leave enough programs; and tiles of all images, channels not counted."""
    batch, height, width, channels = x.shape
    columns = triton.cdiv(width, block_w)
    per_strip = batch * columns * triton.cdiv(channels, block_c)
    wanted = triton.cdiv(height * per_strip, PROGRAMS)
    rows = min(max(wanted, FEWEST_ROWS), MOST_ROWS)
    return rows, batch * columns * triton.cdiv(height, rows)
