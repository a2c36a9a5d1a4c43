"""The convolution, its gradient with respect to the input, and the convolution with a LayerNorm after it."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .tiles import RUN_TIME, TILE, WARPS, blocks, load, locate, split

# With the LayerNorm a tile holds all channels, of at least 4 columns. Of fewer, by the count of bytes, more
# would be read for the neighbours than is saved: one of four passes over the map.
NORM_TILE, NORM_COLUMNS = 1024, 4


@triton.jit
def _tap(
    taps,  # one pointer per channel
    keep,
    INDEX: tl.constexpr,
    TAPS: tl.constexpr,
    FLIP: tl.constexpr,
    RESIDUAL: tl.constexpr,
):
    source: tl.constexpr = TAPS - 1 - INDEX if FLIP else INDEX
    tap = tl.load(taps + source, mask=keep, other=0.0).to(tl.float32)
    if RESIDUAL and INDEX == TAPS // 2:
        tap += 1.0
    return tap[None, :]


@triton.jit(do_not_specialize=[*RUN_TIME, 'kernel_stride'])
def _conv3x3_kernel(
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
    mean,  # (B, H, W)
    rstd,  # (B, H, W)
    norm_weight,  # (C,)
    norm_bias,  # (C,)
    eps,
    HAS_BIAS: tl.constexpr,
    FLIP: tl.constexpr,
    RESIDUAL: tl.constexpr,
    NORM: tl.constexpr,  # BLOCK_C holds all channels
    BLOCK_W: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    image, first, column, channel = locate(height, width, channels, rows, BLOCK_W, BLOCK_C)
    keep = channel < channels
    taps = kernel + image * kernel_stride + channel * 9
    t00 = _tap(taps, keep, 0, 9, FLIP, RESIDUAL)
    t01 = _tap(taps, keep, 1, 9, FLIP, RESIDUAL)
    t02 = _tap(taps, keep, 2, 9, FLIP, RESIDUAL)
    t10 = _tap(taps, keep, 3, 9, FLIP, RESIDUAL)
    t11 = _tap(taps, keep, 4, 9, FLIP, RESIDUAL)
    t12 = _tap(taps, keep, 5, 9, FLIP, RESIDUAL)
    t20 = _tap(taps, keep, 6, 9, FLIP, RESIDUAL)
    t21 = _tap(taps, keep, 7, 9, FLIP, RESIDUAL)
    t22 = _tap(taps, keep, 8, 9, FLIP, RESIDUAL)
    start = tl.zeros((BLOCK_W, BLOCK_C), dtype=tl.float32)
    if HAS_BIAS:
        start += tl.load(bias + channel, mask=keep, other=0.0).to(tl.float32)[None, :]

    offset = column[:, None] * channels + channel[None, :]
    left = ((column > 0) & (column <= width))[:, None] & keep[None, :]
    middle = (column < width)[:, None] & keep[None, :]
    right = (column + 1 < width)[:, None] & keep[None, :]
    stride = width.to(tl.int64) * channels
    x += image * height * stride
    out += image * height * stride
    if NORM:
        normed += image * height * stride
        mean += image * height * width
        rstd += image * height * width
        scale = tl.load(norm_weight + channel, mask=keep, other=0.0).to(tl.float32)[None, :]
        shift = tl.load(norm_bias + channel, mask=keep, other=0.0).to(tl.float32)[None, :]

    end = tl.minimum(first + rows, height)
    low, high = tl.maximum(first - 1, 0), tl.minimum(end + 1, height)  # rows that are read
    # The sides of a row are loaded one row ahead; its middle, which brings it from memory, two rows ahead.
    a = load(x, first - 1, low, high, stride, offset - channels, left)
    b = load(x, first - 1, low, high, stride, offset, middle)
    c = load(x, first - 1, low, high, stride, offset + channels, right)
    next_b = load(x, first, low, high, stride, offset, middle)
    above, here = start, start  # sums of the output rows `row - 1` and `row`
    for row in range(first - 1, end + 1):
        last_b = load(x, row + 2, low, high, stride, offset, middle)
        next_a = load(x, row + 1, low, high, stride, offset - channels, left)
        next_c = load(x, row + 1, low, high, stride, offset + channels, right)
        a = a.to(tl.float32)
        b = b.to(tl.float32)
        c = c.to(tl.float32)
        done = (above + a * t20 + b * t21 + c * t22).to(out.dtype.element_ty)
        above = here + a * t10 + b * t11 + c * t12
        here = start + a * t00 + b * t01 + c * t02
        target = (row - 1) * stride + offset
        tl.store(out + target, done, mask=middle & (row > first))
        if NORM:
            done = done.to(tl.float32)  # as rounded: the gradient will see no other
            average = tl.sum(done, axis=1) / channels
            centred = tl.where(keep[None, :], done - average[:, None], 0.0)
            inverse = 1.0 / tl.sqrt(tl.sum(centred * centred, axis=1) / channels + eps)
            result = centred * inverse[:, None] * scale + shift
            result = result.to(normed.dtype.element_ty)
            tl.store(normed + target, result, mask=middle & (row > first))
            position = (row - 1) * width.to(tl.int64) + column
            tl.store(mean + position, average, mask=(column < width) & (row > first))
            tl.store(rstd + position, inverse, mask=(column < width) & (row > first))
        a, b, c, next_b = next_a, next_b, next_c, last_b


@triton.jit(do_not_specialize=[*RUN_TIME, 'kernel_stride'])
def _conv_kernel(
    x,  # (B, H, W, C)
    kernel,  # (B or 1, C, 1, k, k)
    bias,  # (C,) or None
    out,  # (B, H, W, C)
    height,
    width,
    channels,
    rows,
    kernel_stride,
    HAS_BIAS: tl.constexpr,
    FLIP: tl.constexpr,
    RESIDUAL: tl.constexpr,
    SIZE: tl.constexpr,  # k
    BLOCK_W: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    image, first, column, channel = locate(height, width, channels, rows, BLOCK_W, BLOCK_C)
    keep = channel < channels
    taps = kernel + image * kernel_stride + channel * (SIZE * SIZE)
    stride = width.to(tl.int64) * channels
    x += image * height * stride
    out += image * height * stride
    inside = (column < width)[:, None] & keep[None, :]
    for row in range(first, tl.minimum(first + rows, height)):
        total = tl.zeros((BLOCK_W, BLOCK_C), dtype=tl.float32)
        if HAS_BIAS:
            total += tl.load(bias + channel, mask=keep, other=0.0).to(tl.float32)[None, :]
        for i in range(SIZE):  # unrolled as well, 49 taps would spill
            for j in tl.static_range(SIZE):
                source = column + (j - SIZE // 2)
                mask = ((source >= 0) & (source < width))[:, None] & keep[None, :]
                offset = source[:, None] * channels + channel[None, :]
                value = load(x, row + i - SIZE // 2, 0, height, stride, offset, mask)
                index = i * SIZE + j
                if FLIP:
                    index = SIZE * SIZE - 1 - index
                tap = tl.load(taps + index, mask=keep, other=0.0).to(tl.float32)
                if RESIDUAL:
                    tap += tl.where(index == SIZE * SIZE // 2, 1.0, 0.0)
                total += value.to(tl.float32) * tap[None, :]
        offset = column[:, None] * channels + channel[None, :]
        tl.store(out + row * stride + offset, total.to(out.dtype.element_ty), mask=inside)


def conv(
    x: Tensor, kernel: Tensor, bias: Tensor | None, residual: bool, flip: bool = False
) -> Tensor:
    """The convolution, or with ``flip`` that with each kernel turned by 180 degrees, plus ``x`` itself.

    Args:
        x: ``(B, H, W, C)``.
        kernel: ``(B or 1, C, 1, k, k)`` of any floating-point type.
        bias: ``(C,)`` of any floating-point type, or None.
        residual: add ``x``.
        flip: turn the kernels, for the gradient of the input.

    Returns:
        ``(B, H, W, C)``, contiguous, of the type of ``x``.
    """
    x, kernel = x.contiguous(), kernel.contiguous()
    bias = bias if bias is None else bias.contiguous()
    out = x.new_empty(x.shape)
    size = kernel.shape[-1]
    block_w, block_c = blocks(x.shape[3])
    rows, tiles = split(x, block_w, block_c)
    arguments = [x, kernel, bias, out, *x.shape[1:], rows, _image_stride(kernel)]
    options = {'HAS_BIAS': bias is not None, 'FLIP': flip, 'RESIDUAL': residual}
    options.update(BLOCK_W=block_w, BLOCK_C=block_c, num_warps=WARPS)
    grid = (tiles * triton.cdiv(x.shape[3], block_c),)
    if grid[0] == 0:
        return out
    if size == 3:
        _conv3x3_kernel[grid](*arguments, *[None] * 6, NORM=False, **options)
    else:
        _conv_kernel[grid](*arguments, SIZE=size, **options)
    return out


def conv_norm(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    eps: float,
    residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`conv` with a 3x3 kernel and the LayerNorm of what it gives, C at most 512.

    Returns:
        the convolution and its LayerNorm, both like ``x``; mean and ``1 / sqrt(variance + eps)`` of each
        position, ``(B, H, W)``, float32.
    """
    x, kernel, bias = x.contiguous(), kernel.contiguous(), bias.contiguous()
    norm_weight, norm_bias = norm_weight.contiguous(), norm_bias.contiguous()
    out, normed = x.new_empty(x.shape), x.new_empty(x.shape)
    mean, rstd = (x.new_empty(x.shape[:3], dtype=torch.float32) for _ in range(2))
    block_c = triton.next_power_of_2(x.shape[3])
    block_w = max(NORM_COLUMNS, NORM_TILE // block_c)
    rows, tiles = split(x, block_w, block_c)
    if tiles:
        _conv3x3_kernel[(tiles,)](
            *(x, kernel, bias, out, *x.shape[1:], rows, _image_stride(kernel)),
            *(normed, mean, rstd, norm_weight, norm_bias, eps),
            HAS_BIAS=True,
            FLIP=False,
            RESIDUAL=residual,
            NORM=True,
            BLOCK_W=block_w,
            BLOCK_C=block_c,
            num_warps=WARPS * block_w * block_c // TILE,
        )
    return out, normed, mean, rstd


def _image_stride(kernel: Tensor) -> int:
    return kernel[0].numel() if kernel.shape[0] > 1 else 0
