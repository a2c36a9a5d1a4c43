"""Triton kernels of the LayerNorm; only this module of the operation imports Triton.

A program owns whole positions of a map. Sums are float32.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .._shared.kernels import gelu, gelu_and_derivative, normalised


@triton.jit
def _offset(position, channel, channels, pixels, CHANNELS_FIRST: tl.constexpr):
    if CHANNELS_FIRST:
        image = position // pixels
        start = image * channels * pixels + position % pixels
        return start[:, None] + channel[None, :].to(tl.int64) * pixels
    return position[:, None] * channels + channel[None, :]


@triton.jit(do_not_specialize=['positions', 'pixels'])
def layer_norm_kernel(
    x,  # (positions, C)
    weight,  # (C,)
    bias,  # (C,)
    out,  # (positions, C), or (B, C, pixels)
    positions,
    pixels,  # of an image
    channels,
    eps,
    GELU: tl.constexpr,
    EXACT: tl.constexpr,
    CHANNELS_FIRST: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,  # holds all channels
):
    position = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    channel = tl.arange(0, BLOCK_C)
    keep = channel < channels
    mask = (position < positions)[:, None] & keep[None, :]
    offset = position[:, None] * channels + channel[None, :]
    value = tl.load(x + offset, mask=mask, other=0.0).to(tl.float32)
    result, _ = normalised(value, keep, channels, eps)
    result *= tl.load(weight + channel, mask=keep, other=0.0).to(tl.float32)[None, :]
    result += tl.load(bias + channel, mask=keep, other=0.0).to(tl.float32)[None, :]
    if GELU:
        result = gelu(result, EXACT)
    target = _offset(position, channel, channels, pixels, CHANNELS_FIRST)
    tl.store(out + target, result.to(out.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=['positions', 'pixels', 'share'])
def layer_norm_grad_kernel(
    grad_normed,  # (positions, C), or (B, C, pixels)
    grad_x,  # (positions, C), another gradient of x, or None
    x,  # (positions, C)
    weight,  # (C,)
    bias,  # (C,)
    grad,  # (positions, C)
    partial,  # (programs, 2, C): sums for weight and bias
    positions,
    pixels,  # of an image
    share,  # positions of a program, a multiple of BLOCK_N
    channels,
    eps,
    GELU: tl.constexpr,
    EXACT: tl.constexpr,
    CHANNELS_FIRST: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,  # holds all channels
):
    program = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, BLOCK_C)
    keep = channel < channels
    scale = tl.load(weight + channel, mask=keep, other=0.0).to(tl.float32)[None, :]
    weight_sum = tl.zeros((BLOCK_N, BLOCK_C), dtype=tl.float32)
    bias_sum = weight_sum
    for start in range(0, share, BLOCK_N):
        position = program * share + start + tl.arange(0, BLOCK_N)
        mask = (position < positions)[:, None] & keep[None, :]
        offset = position[:, None] * channels + channel[None, :]
        value = tl.load(x + offset, mask=mask, other=0.0).to(tl.float32)
        normal, inverse = normalised(value, keep, channels, eps)
        source = _offset(position, channel, channels, pixels, CHANNELS_FIRST)
        upstream = tl.load(grad_normed + source, mask=mask, other=0.0).to(tl.float32)
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
    partial += program * 2 * channels
    tl.store(partial + channel, tl.sum(weight_sum, axis=0), mask=keep)
    tl.store(partial + channels + channel, tl.sum(bias_sum, axis=0), mask=keep)
