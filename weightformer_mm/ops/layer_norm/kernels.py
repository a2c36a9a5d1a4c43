"""Triton kernels of the LayerNorm; only this module of the operation imports Triton.

A program owns whole pixels of a map. Sums are float32. SIZE is that of a grid over whose cells the output is
averaged, at most 4.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .._shared.kernels import cell_end, cell_start, gelu, gelu_and_derivative, normalised


@triton.jit
def _offset(image, pixel, channel, pixels, channels, CHANNELS_FIRST: tl.constexpr):
    start = image * pixels * channels
    if CHANNELS_FIRST:
        return start + pixel[:, None] + channel[None, :].to(tl.int64) * pixels
    return start + pixel[:, None].to(tl.int64) * channels + channel[None, :]


@triton.jit(do_not_specialize=['pixels'])
def layer_norm_kernel(
    x,  # (B, pixels, C)
    weight,  # (C,)
    bias,  # (C,)
    out,  # (B, pixels, C), or (B, C, pixels)
    pixels,
    channels,
    eps,
    GELU: tl.constexpr,
    EXACT: tl.constexpr,
    CHANNELS_FIRST: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,  # holds all channels
):
    image = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    channel = tl.arange(0, BLOCK_C)
    keep = channel < channels
    mask = (pixel < pixels)[:, None] & keep[None, :]
    offset = _offset(image, pixel, channel, pixels, channels, False)
    value = tl.load(x + offset, mask=mask, other=0.0).to(tl.float32)
    result, _ = normalised(value, keep, channels, eps)
    result *= tl.load(weight + channel, mask=keep, other=0.0).to(tl.float32)[None, :]
    result += tl.load(bias + channel, mask=keep, other=0.0).to(tl.float32)[None, :]
    if GELU:
        result = gelu(result, EXACT)
    target = _offset(image, pixel, channel, pixels, channels, CHANNELS_FIRST)
    tl.store(out + target, result.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _spread(grid, pixel, height, width, channel, keep, channels, SIZE: tl.constexpr):
    """The gradient of each pixel from that of the means over the cells of a grid, ``(SIZE, SIZE, C)``."""
    row, column = pixel // width, pixel % width
    total = tl.zeros((pixel.shape[0], channel.shape[0]), dtype=tl.float32)
    for i in tl.static_range(SIZE):
        top, bottom = cell_start(i, height, SIZE), cell_end(i, height, SIZE)
        for j in tl.static_range(SIZE):
            left, right = cell_start(j, width, SIZE), cell_end(j, width, SIZE)
            inside = (row >= top) & (row < bottom) & (column >= left) & (column < right)
            share = tl.where(inside, 1.0 / ((bottom - top) * (right - left)).to(tl.float32), 0.0)
            cell = tl.load(grid + (i * SIZE + j) * channels + channel, mask=keep, other=0.0)
            total += share[:, None] * cell.to(tl.float32)[None, :]
    return total


@triton.jit(do_not_specialize=['height', 'width', 'share'])
def layer_norm_grad_kernel(
    grad_normed,  # (B, pixels, C), or (B, C, pixels)
    grad_x,  # (B, pixels, C), another gradient of x, or None
    grad_grid,  # (B, SIZE, SIZE, C), of the means of the output over the cells of a grid, or None
    x,  # (B, pixels, C)
    weight,  # (C,)
    bias,  # (C,)
    grad,  # (B, pixels, C)
    partial,  # (B, programs, 2, C): sums for weight and bias
    height,
    width,
    share,  # pixels of a program, a multiple of BLOCK_N
    channels,
    eps,
    SIZE: tl.constexpr,
    GELU: tl.constexpr,
    EXACT: tl.constexpr,
    CHANNELS_FIRST: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,  # holds all channels
):
    image, pixels = tl.program_id(1).to(tl.int64), height * width
    channel = tl.arange(0, BLOCK_C)
    keep = channel < channels
    scale = tl.load(weight + channel, mask=keep, other=0.0).to(tl.float32)[None, :]
    weight_sum = tl.zeros((BLOCK_N, BLOCK_C), dtype=tl.float32)
    bias_sum = weight_sum
    for start in range(0, share, BLOCK_N):
        pixel = tl.program_id(0) * share + start + tl.arange(0, BLOCK_N)
        mask = (pixel < pixels)[:, None] & keep[None, :]
        offset = _offset(image, pixel, channel, pixels, channels, False)
        value = tl.load(x + offset, mask=mask, other=0.0).to(tl.float32)
        normal, inverse = normalised(value, keep, channels, eps)
        source = _offset(image, pixel, channel, pixels, channels, CHANNELS_FIRST)
        upstream = tl.load(grad_normed + source, mask=mask, other=0.0).to(tl.float32)
        if grad_grid is not None:
            cells = grad_grid + image * SIZE * SIZE * channels
            shared = _spread(cells, pixel, height, width, channel, keep, channels, SIZE)
            upstream += tl.where(mask, shared, 0.0)
        if GELU:
            shift = tl.load(bias + channel, mask=keep, other=0.0).to(tl.float32)[None, :]
            _, derivative = gelu_and_derivative(normal * scale + shift, EXACT)
            upstream *= derivative
        weight_sum += upstream * normal
        bias_sum += upstream
        scaled = upstream * scale
        along_mean = (tl.sum(scaled, axis=1) / channels)[:, None]
        along_normal = (tl.sum(scaled * normal, axis=1) / channels)[:, None]
        total = (scaled - along_mean - normal * along_normal) * inverse
        if grad_x is not None:
            total += tl.load(grad_x + offset, mask=mask, other=0.0).to(tl.float32)
        tl.store(grad + offset, total.to(grad.dtype.element_ty), mask=mask)
    partial += (image * tl.num_programs(0) + tl.program_id(0)) * 2 * channels
    tl.store(partial + channel, tl.sum(weight_sum, axis=0), mask=keep)
    tl.store(partial + channels + channel, tl.sum(bias_sum, axis=0), mask=keep)


@triton.jit(do_not_specialize=['width', 'share', 'parts'])
def norm_sums_kernel(
    x,  # (B, H, W, C)
    weight,  # (C,)
    bias,  # (C,)
    out,  # (B, H, W, C)
    sums,  # (B, H, parts, SIZE, C), float32: of the output, over a part of each row of a cell
    width,
    share,  # pixels of a part, a multiple of BLOCK_N
    parts,  # of a row
    channels,
    eps,
    SIZE: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,  # holds all channels
):
    row, part = (tl.program_id(0) // parts).to(tl.int64), tl.program_id(0) % parts  # of all images
    channel, size = tl.arange(0, BLOCK_C), tl.arange(0, 4)
    keep = channel < channels
    scale = tl.load(weight + channel, mask=keep, other=0.0).to(tl.float32)[None, :]
    shift = tl.load(bias + channel, mask=keep, other=0.0).to(tl.float32)[None, :]
    total = tl.zeros((4, BLOCK_C), dtype=tl.float32)
    for start in range(part * share, tl.minimum((part + 1) * share, width), BLOCK_N):
        column = start + tl.arange(0, BLOCK_N)
        mask = (column < width)[:, None] & keep[None, :]
        offset = (row * width + column)[:, None] * channels + channel[None, :]
        value = tl.load(x + offset, mask=mask, other=0.0).to(tl.float32)
        result, _ = normalised(value, keep, channels, eps)
        result = (result * scale + shift).to(out.dtype.element_ty)
        tl.store(out + offset, result, mask=mask)
        result = tl.where(mask, result.to(tl.float32), 0.0)
        for j in tl.static_range(SIZE):
            inside = (column >= cell_start(j, width, SIZE)) & (column < cell_end(j, width, SIZE))
            cell = tl.sum(tl.where(inside[:, None], result, 0.0), axis=0)
            total += tl.where((size == j)[:, None], cell[None, :], 0.0)
    offset = ((row * parts + part) * SIZE + size)[:, None] * channels + channel[None, :]
    tl.store(sums + offset, total, mask=(size < SIZE)[:, None] & keep[None, :])
