"""Triton kernels of the mean over each cell of a coarse grid; the cells are those of the reference."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _cell_start(cell, length, SIZE: tl.constexpr):
    return cell * length // SIZE


@triton.jit
def _cell_end(cell, length, SIZE: tl.constexpr):
    return ((cell + 1) * length + SIZE - 1) // SIZE


@triton.jit(do_not_specialize=['width'])
def row_sums_kernel(
    x,  # (B, H, W, C)
    out,  # (B, H, SIZE, C), float32: sums over the columns of each cell
    width,
    C: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    per_row: tl.constexpr = (C + BLOCK_C - 1) // BLOCK_C * SIZE
    row = (tl.program_id(0) // per_row).to(tl.int64)  # of all images
    block = tl.program_id(0) % per_row
    cell = block % SIZE
    channel = block // SIZE * BLOCK_C + tl.arange(0, BLOCK_C)
    start, end = _cell_start(cell, width, SIZE), _cell_end(cell, width, SIZE)
    total = tl.zeros((BLOCK_W, BLOCK_C), dtype=tl.float32)
    for first in range(start, end, BLOCK_W):
        column = first + tl.arange(0, BLOCK_W)
        offset = (row * width + column)[:, None] * C + channel[None, :]
        mask = (column < end)[:, None] & (channel < C)[None, :]
        total += tl.load(x + offset, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + (row * SIZE + cell) * C + channel, tl.sum(total, axis=0), mask=channel < C)


@triton.jit(do_not_specialize=['height', 'width'])
def cell_means_kernel(
    sums,  # (B, H, SIZE, C), float32
    out,  # (B, SIZE, SIZE, C), float32
    height,
    width,
    C: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    image = tl.program_id(2).to(tl.int64)
    i, j = tl.program_id(1) // SIZE, tl.program_id(1) % SIZE
    channel = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    start, end = _cell_start(i, height, SIZE), _cell_end(i, height, SIZE)
    total = tl.zeros((BLOCK_H, BLOCK_C), dtype=tl.float32)
    for first in range(start, end, BLOCK_H):
        row = first + tl.arange(0, BLOCK_H)
        offset = ((image * height + row) * SIZE + j)[:, None] * C + channel[None, :]
        mask = (row < end)[:, None] & (channel < C)[None, :]
        total += tl.load(sums + offset, mask=mask, other=0.0)
    columns = _cell_end(j, width, SIZE) - _cell_start(j, width, SIZE)
    mean = tl.sum(total, axis=0) / ((end - start) * columns).to(tl.float32)
    tl.store(out + ((image * SIZE + i) * SIZE + j) * C + channel, mean, mask=channel < C)


@triton.jit(do_not_specialize=['height', 'width'])
def grid_backward_kernel(
    grad,  # (B, SIZE, SIZE, C)
    out,  # (B, H, W, C)
    height,
    width,
    C: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    channel_blocks: tl.constexpr = (C + BLOCK_C - 1) // BLOCK_C
    per_row = tl.cdiv(width, BLOCK_W) * channel_blocks
    row_of_all = tl.program_id(0) // per_row  # of all images
    row, image = row_of_all % height, (row_of_all // height).to(tl.int64)
    block = tl.program_id(0) % per_row
    column = block // channel_blocks * BLOCK_W + tl.arange(0, BLOCK_W)
    channel = block % channel_blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    total = tl.zeros((BLOCK_W, BLOCK_C), dtype=tl.float32)
    for j in tl.static_range(SIZE):
        start, end = _cell_start(j, width, SIZE), _cell_end(j, width, SIZE)
        share = tl.where(
            (column >= start) & (column < end), 1.0 / (end - start).to(tl.float32), 0.0
        )
        for i in tl.static_range(SIZE):
            top, bottom = _cell_start(i, height, SIZE), _cell_end(i, height, SIZE)
            inside = (row >= top) & (row < bottom)
            cell = ((image * SIZE + i) * SIZE + j) * C + channel
            upstream = tl.load(grad + cell, mask=(channel < C) & inside, other=0.0).to(tl.float32)
            total += share[:, None] * (upstream / (bottom - top).to(tl.float32))[None, :]
    offset = (row_of_all.to(tl.int64) * width + column)[:, None] * C + channel[None, :]
    mask = (column < width)[:, None] & (channel < C)[None, :]
    tl.store(out + offset, total.to(out.dtype.element_ty), mask=mask)
