"""Triton kernels: the 3x3 convolution, alone or with a LayerNorm, its gradients, and the grid of means.

Only this module of the operation imports Triton. Maps are channels-last, ``(B, H, W, C)``; sums are float32.
A program of the convolution owns a tile of columns and channels and walks down a strip of rows.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .._shared.kernels import cell_end, cell_start, normalised

# Arguments whose values must not trigger another compilation
RUN_TIME = ['height', 'width', 'rows']


@triton.jit
def _locate(height, width, channels, rows, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr):
    """This program's image, first row of its strip, columns, and channels; the channels vary fastest."""
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
def _load(x, row, low, high, stride, offset, mask):
    """A tile of row ``row``; zeros where ``mask`` is off or the row is not in ``low <= row < high``."""
    return tl.load(x + row * stride + offset, mask=mask & (row >= low) & (row < high), other=0.0)


@triton.jit
def _tap(taps, keep, INDEX: tl.constexpr, RESIDUAL: tl.constexpr):
    """Tap ``INDEX`` of each channel; ``taps`` has one pointer per channel."""
    tap = tl.load(taps + INDEX, mask=keep, other=0.0).to(tl.float32)
    if RESIDUAL and INDEX == 4:
        tap += 1.0
    return tap[None, :]


@triton.jit
def _taps(taps, keep, RESIDUAL: tl.constexpr):
    """The nine taps of each channel, from the upper left to the lower right."""
    return (
        _tap(taps, keep, 0, RESIDUAL),
        _tap(taps, keep, 1, RESIDUAL),
        _tap(taps, keep, 2, RESIDUAL),
        _tap(taps, keep, 3, RESIDUAL),
        _tap(taps, keep, 4, RESIDUAL),
        _tap(taps, keep, 5, RESIDUAL),
        _tap(taps, keep, 6, RESIDUAL),
        _tap(taps, keep, 7, RESIDUAL),
        _tap(taps, keep, 8, RESIDUAL),
    )


@triton.jit
def _inside(column, width, keep):
    """Which elements of a tile have a pixel to the left, are one, and have one to the right."""
    left = ((column > 0) & (column <= width))[:, None] & keep[None, :]
    middle = (column < width)[:, None] & keep[None, :]
    right = (column + 1 < width)[:, None] & keep[None, :]
    return left, middle, right


@triton.jit(do_not_specialize=[*RUN_TIME, 'kernel_stride'])
def conv3x3_kernel(
    x,  # (B, H, W, C)
    kernel,  # (B or 1, C, 1, 3, 3)
    bias,  # (C,) or None
    out,  # (B, H, W, C)
    height,
    width,
    channels,
    rows,  # of a strip
    kernel_stride,  # elements from one image's kernel to the next one's
    normed,  # (B, H, W, C); this and all below only with NORM
    norm_weight,  # (C,)
    norm_bias,  # (C,)
    eps,
    HAS_BIAS: tl.constexpr,
    RESIDUAL: tl.constexpr,
    NORM: tl.constexpr,  # BLOCK_C holds all channels
    BLOCK_W: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    image, first, column, channel = _locate(height, width, channels, rows, BLOCK_W, BLOCK_C)
    keep = channel < channels
    t00, t01, t02, t10, t11, t12, t20, t21, t22 = _taps(
        kernel + image * kernel_stride + channel * 9, keep, RESIDUAL
    )
    start = tl.zeros((BLOCK_W, BLOCK_C), dtype=tl.float32)
    if HAS_BIAS:
        start += tl.load(bias + channel, mask=keep, other=0.0).to(tl.float32)[None, :]

    offset = column[:, None] * channels + channel[None, :]
    left, middle, right = _inside(column, width, keep)
    stride = width.to(tl.int64) * channels
    x += image * height * stride
    out += image * height * stride
    if NORM:
        normed += image * height * stride
        scale = tl.load(norm_weight + channel, mask=keep, other=0.0).to(tl.float32)[None, :]
        shift = tl.load(norm_bias + channel, mask=keep, other=0.0).to(tl.float32)[None, :]

    end = tl.minimum(first + rows, height)
    low, high = tl.maximum(first - 1, 0), tl.minimum(end + 1, height)  # rows that are read
    # The sides of a row are loaded one row ahead; its middle, which fetches it from memory, two rows ahead.
    a = _load(x, first - 1, low, high, stride, offset - channels, left)
    b = _load(x, first - 1, low, high, stride, offset, middle)
    c = _load(x, first - 1, low, high, stride, offset + channels, right)
    next_b = _load(x, first, low, high, stride, offset, middle)
    above, here = start, start  # sums of the output rows `row - 1` and `row`
    for row in range(first - 1, end + 1):
        last_b = _load(x, row + 2, low, high, stride, offset, middle)
        next_a = _load(x, row + 1, low, high, stride, offset - channels, left)
        next_c = _load(x, row + 1, low, high, stride, offset + channels, right)
        a = a.to(tl.float32)
        b = b.to(tl.float32)
        c = c.to(tl.float32)
        done = (above + a * t20 + b * t21 + c * t22).to(out.dtype.element_ty)
        above = here + a * t10 + b * t11 + c * t12
        here = start + a * t00 + b * t01 + c * t02
        target = (row - 1) * stride + offset
        tl.store(out + target, done, mask=middle & (row > first))
        if NORM:
            done = done.to(tl.float32)  # as rounded: the gradient sees only that
            result, _ = normalised(done, keep, channels, eps)
            result = (result * scale + shift).to(normed.dtype.element_ty)
            tl.store(normed + target, result, mask=middle & (row > first))
        a, b, c, next_b = next_a, next_b, next_c, last_b


@triton.jit(do_not_specialize=[*RUN_TIME, 'kernel_stride'])
def conv3x3_grad_kernel(
    x,  # (B, H, W, C)
    grad,  # (B, H, W, C)
    kernel,  # (B or 1, C, 1, 3, 3)
    out,  # (B, H, W, C): the gradient of x
    partial,  # (B * strips * blocks of columns, 10 * C): for C times nine taps, then for the bias
    height,
    width,
    channels,
    rows,  # of a strip
    kernel_stride,  # elements from one image's kernel to the next one's
    RESIDUAL: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    image, first, column, channel = _locate(height, width, channels, rows, BLOCK_W, BLOCK_C)
    keep = channel < channels
    t00, t01, t02, t10, t11, t12, t20, t21, t22 = _taps(
        kernel + image * kernel_stride + channel * 9, keep, RESIDUAL
    )
    zero = tl.zeros((BLOCK_W, BLOCK_C), dtype=tl.float32)
    s00, s01, s02, s10, s11, s12, s20, s21, s22, s_bias = (
        zero, zero, zero, zero, zero, zero, zero, zero, zero, zero,
    )  # fmt: skip

    offset = column[:, None] * channels + channel[None, :]
    left, middle, right = _inside(column, width, keep)
    stride = width.to(tl.int64) * channels
    x += image * height * stride
    grad += image * height * stride
    out += image * height * stride

    # Row `row` of the gradient meets x's rows `row - 1`, `row` and `row + 1` under the taps of the first,
    # second and third row, from right to left. Of x only the strip's own pixels count.
    end = tl.minimum(first + rows, height)
    low, high = tl.maximum(first - 1, 0), tl.minimum(end + 1, height)  # rows of grad that are read
    a = _load(grad, first - 1, low, high, stride, offset - channels, left)
    b = _load(grad, first - 1, low, high, stride, offset, middle)
    c = _load(grad, first - 1, low, high, stride, offset + channels, right)
    x_above, x_here = zero, zero
    x_below = _load(x, first, first, end, stride, offset, middle)
    above, here = zero, zero  # sums of the output rows `row - 1` and `row`
    for row in range(first - 1, end + 1):
        next_a = _load(grad, row + 1, low, high, stride, offset - channels, left)
        next_b = _load(grad, row + 1, low, high, stride, offset, middle)
        next_c = _load(grad, row + 1, low, high, stride, offset + channels, right)
        next_x = _load(x, row + 2, first, end, stride, offset, middle)
        a = a.to(tl.float32)
        b = b.to(tl.float32)
        c = c.to(tl.float32)
        under = x_below.to(tl.float32)
        done = (above + a * t02 + b * t01 + c * t00).to(out.dtype.element_ty)
        above = here + a * t12 + b * t11 + c * t10
        here = a * t22 + b * t21 + c * t20
        tl.store(out + (row - 1) * stride + offset, done, mask=middle & (row > first))
        s00 += x_above * c
        s01 += x_above * b
        s02 += x_above * a
        s10 += x_here * c
        s11 += x_here * b
        s12 += x_here * a
        s20 += under * c
        s21 += under * b
        s22 += under * a
        s_bias += tl.where((row >= first) & (row < end), b, 0.0)
        x_above, x_here, x_below = x_here, under, next_x
        a, b, c = next_a, next_b, next_c

    tile = (tl.program_id(0) // tl.cdiv(channels, BLOCK_C)).to(tl.int64)
    partial += tile * 10 * channels
    _store_sum(partial + channel * 9, s00, keep)
    _store_sum(partial + channel * 9 + 1, s01, keep)
    _store_sum(partial + channel * 9 + 2, s02, keep)
    _store_sum(partial + channel * 9 + 3, s10, keep)
    _store_sum(partial + channel * 9 + 4, s11, keep)
    _store_sum(partial + channel * 9 + 5, s12, keep)
    _store_sum(partial + channel * 9 + 6, s20, keep)
    _store_sum(partial + channel * 9 + 7, s21, keep)
    _store_sum(partial + channel * 9 + 8, s22, keep)
    _store_sum(partial + channels * 9 + channel, s_bias, keep)


@triton.jit
def _store_sum(target, total, keep):
    tl.store(target, tl.sum(total, axis=0), mask=keep)


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
    start, end = cell_start(cell, width, SIZE), cell_end(cell, width, SIZE)
    total = tl.zeros((BLOCK_W, BLOCK_C), dtype=tl.float32)
    for first in range(start, end, BLOCK_W):
        column = first + tl.arange(0, BLOCK_W)
        offset = (row * width + column)[:, None] * C + channel[None, :]
        mask = (column < end)[:, None] & (channel < C)[None, :]
        total += tl.load(x + offset, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + (row * SIZE + cell) * C + channel, tl.sum(total, axis=0), mask=channel < C)


@triton.jit(do_not_specialize=['height', 'width', 'parts'])
def cell_means_kernel(
    sums,  # (B, H * parts, SIZE, C), float32
    out,  # (B, SIZE, SIZE, C), float32
    height,
    width,
    parts,  # of a row
    C: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    image = tl.program_id(2).to(tl.int64)
    i, j = tl.program_id(1) // SIZE, tl.program_id(1) % SIZE
    channel = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    rows = cell_end(i, height, SIZE) - cell_start(i, height, SIZE)
    start = cell_start(i, height, SIZE) * parts
    end = start + rows * parts
    total = tl.zeros((BLOCK_H, BLOCK_C), dtype=tl.float32)
    for first in range(start, end, BLOCK_H):
        row = first + tl.arange(0, BLOCK_H)
        offset = ((image * height * parts + row) * SIZE + j)[:, None] * C + channel[None, :]
        mask = (row < end)[:, None] & (channel < C)[None, :]
        total += tl.load(sums + offset, mask=mask, other=0.0)
    columns = cell_end(j, width, SIZE) - cell_start(j, width, SIZE)
    mean = tl.sum(total, axis=0) / (rows * columns).to(tl.float32)
    tl.store(out + ((image * SIZE + i) * SIZE + j) * C + channel, mean, mask=channel < C)


@triton.jit(do_not_specialize=['rows', 'other_rows'])
def sums_kernel(
    first,  # (rows, WIDTH)
    second,  # (B, other_rows, OTHER_WIDTH)
    out,  # (WIDTH,)
    other_out,  # (B, OTHER_WIDTH)
    rows,
    other_rows,
    WIDTH: tl.constexpr,
    OTHER_WIDTH: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """Two sums over rows, all float32."""
    blocks: tl.constexpr = (WIDTH + BLOCK_W - 1) // BLOCK_W
    other_blocks: tl.constexpr = (OTHER_WIDTH + BLOCK_W - 1) // BLOCK_W
    block = tl.program_id(0)
    if block < blocks:
        _sum_rows(first, out, rows, block, WIDTH, BLOCK_R, BLOCK_W)
    else:
        block -= blocks
        image = (block // other_blocks).to(tl.int64)
        second += image * other_rows * OTHER_WIDTH
        other_out += image * OTHER_WIDTH
        block %= other_blocks
        _sum_rows(second, other_out, other_rows, block, OTHER_WIDTH, BLOCK_R, BLOCK_W)


@triton.jit
def _sum_rows(
    values, out, rows, block, WIDTH: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_W: tl.constexpr
):  # fmt: skip
    column = block * BLOCK_W + tl.arange(0, BLOCK_W)
    keep = column < WIDTH
    total = tl.zeros((BLOCK_R, BLOCK_W), dtype=tl.float32)
    for start in range(0, rows, BLOCK_R):
        row = start + tl.arange(0, BLOCK_R)
        offset = row.to(tl.int64)[:, None] * WIDTH + column[None, :]
        total += tl.load(values + offset, mask=(row < rows)[:, None] & keep[None, :], other=0.0)
    tl.store(out + column, tl.sum(total, axis=0), mask=keep)
