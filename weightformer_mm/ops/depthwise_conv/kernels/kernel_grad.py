"""The gradient of the convolution's kernels and bias."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .tiles import RUN_TIME, WARPS, blocks, load, locate, split


@triton.jit
def _store_sum(partial, total, channel, channels, ROW: tl.constexpr):
    tl.store(partial + ROW * channels + channel, tl.sum(total, axis=0), mask=channel < channels)


@triton.jit(do_not_specialize=RUN_TIME)
def _kernel_grad3x3_kernel(
    x,  # (B, H, W, C)
    grad,  # (B, H, W, C)
    partial,  # (B * strips * blocks of columns, 10, C): sums for the nine taps and the bias
    height,
    width,
    channels,
    rows,
    BLOCK_W: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    image, first, column, channel = locate(height, width, channels, rows, BLOCK_W, BLOCK_C)
    keep = channel < channels
    offset = column[:, None] * channels + channel[None, :]
    left = ((column > 0) & (column <= width))[:, None] & keep[None, :]
    middle = (column < width)[:, None] & keep[None, :]
    right = (column + 1 < width)[:, None] & keep[None, :]
    stride = width.to(tl.int64) * channels
    x += image * height * stride
    grad += image * height * stride

    s00 = tl.zeros((BLOCK_W, BLOCK_C), dtype=tl.float32)
    s01, s02, s10, s11, s12, s20, s21, s22, s_bias = s00, s00, s00, s00, s00, s00, s00, s00, s00
    # Row `row` of x meets the rows `row + 1`, `row` and `row - 1` of the gradient under the taps of the
    # first, second and third row.
    end = tl.minimum(first + rows, height)
    a = load(x, first, 0, end, stride, offset - channels, left)
    b = load(x, first, 0, end, stride, offset, middle)
    c = load(x, first, 0, end, stride, offset + channels, right)
    above = load(grad, first - 1, 0, height, stride, offset, middle).to(tl.float32)
    here = load(grad, first, 0, height, stride, offset, middle).to(tl.float32)
    below = load(grad, first + 1, 0, height, stride, offset, middle)
    for row in range(first, end):
        next_a = load(x, row + 1, 0, end, stride, offset - channels, left)
        next_b = load(x, row + 1, 0, end, stride, offset, middle)
        next_c = load(x, row + 1, 0, end, stride, offset + channels, right)
        next_below = load(grad, row + 2, 0, tl.minimum(height, end + 1), stride, offset, middle)
        under = below.to(tl.float32)
        a = a.to(tl.float32)
        b = b.to(tl.float32)
        c = c.to(tl.float32)
        s00 += a * under
        s01 += b * under
        s02 += c * under
        s10 += a * here
        s11 += b * here
        s12 += c * here
        s20 += a * above
        s21 += b * above
        s22 += c * above
        s_bias += here
        above, here, below = here, under, next_below
        a, b, c = next_a, next_b, next_c

    tile = (tl.program_id(0) // tl.cdiv(channels, BLOCK_C)).to(tl.int64)
    partial += tile * 10 * channels
    _store_sum(partial, s00, channel, channels, 0)
    _store_sum(partial, s01, channel, channels, 1)
    _store_sum(partial, s02, channel, channels, 2)
    _store_sum(partial, s10, channel, channels, 3)
    _store_sum(partial, s11, channel, channels, 4)
    _store_sum(partial, s12, channel, channels, 5)
    _store_sum(partial, s20, channel, channels, 6)
    _store_sum(partial, s21, channel, channels, 7)
    _store_sum(partial, s22, channel, channels, 8)
    _store_sum(partial, s_bias, channel, channels, 9)


@triton.jit(do_not_specialize=RUN_TIME)
def _kernel_grad_kernel(
    x,  # (B, H, W, C)
    grad,  # (B, H, W, C)
    partial,  # (B * strips * blocks of columns, k * k + 1, C): sums for the taps and the bias
    height,
    width,
    channels,
    rows,
    SIZE: tl.constexpr,  # k
    BLOCK_W: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Axis 1 of the grid is the tap, the last one the bias."""
    image, first, column, channel = locate(height, width, channels, rows, BLOCK_W, BLOCK_C)
    keep = channel < channels
    tap = tl.program_id(1)
    is_bias = tap == SIZE * SIZE
    source = column + tap % SIZE - SIZE // 2
    down = tap // SIZE - SIZE // 2
    stride = width.to(tl.int64) * channels
    x += image * height * stride
    grad += image * height * stride
    inside = (column < width)[:, None] & keep[None, :]
    mask = ((source >= 0) & (source < width))[:, None] & inside & (tap < SIZE * SIZE)
    offset = column[:, None] * channels + channel[None, :]
    x_offset = source[:, None] * channels + channel[None, :]
    total = tl.zeros((BLOCK_W, BLOCK_C), dtype=tl.float32)
    for row in range(first, tl.minimum(first + rows, height)):
        upstream = load(grad, row, 0, height, stride, offset, inside).to(tl.float32)
        value = load(x, row + down, 0, height, stride, x_offset, mask).to(tl.float32)
        total += upstream * tl.where(is_bias, 1.0, value)
    tile = (tl.program_id(0) // tl.cdiv(channels, BLOCK_C)).to(tl.int64)
    partial += (tile * (SIZE * SIZE + 1) + tap) * channels
    _store_sum(partial, total, channel, channels, 0)


def kernel_grad(x: Tensor, grad: Tensor, images: int, size: int) -> tuple[Tensor, Tensor]:
    """Gradients of kernel and bias: sums over each tile first, then over the tiles; no atomics.

    Args:
        x: ``(B, H, W, C)``.
        grad: ``(B, H, W, C)``, the gradient of the output.
        images: B for one kernel per image, or 1 for one that all images share.
        size: ``k``.

    Returns:
        ``(images, C, 1, k, k)`` and ``(C,)``, float32.
    """
    x, grad = x.contiguous(), grad.contiguous()
    channels, sums = x.shape[3], size * size + 1
    block_w, block_c = blocks(channels)
    rows, tiles = split(x, block_w, block_c)
    partial = x.new_empty((tiles, sums, channels), dtype=torch.float32)
    arguments = [x, grad, partial, *x.shape[1:], rows]
    options = {'BLOCK_W': block_w, 'BLOCK_C': block_c, 'num_warps': WARPS}
    programs = tiles * triton.cdiv(channels, block_c)
    if programs and size == 3:
        _kernel_grad3x3_kernel[(programs,)](*arguments, **options)
    elif programs:
        _kernel_grad_kernel[(programs, sums)](*arguments, SIZE=size, **options)
    per_image = (
        partial.unflatten(0, (images, -1)) if tiles else partial[None].expand(images, -1, -1, -1)
    )
    total = per_image.sum(1)  # (images, k * k + 1, C)
    taps = total[:, :-1].transpose(1, 2).reshape(images, channels, 1, size, size)
    return taps.contiguous(), total[:, -1].sum(0)
