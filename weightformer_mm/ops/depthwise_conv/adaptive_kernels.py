"""Triton kernels of the ``adaptive`` strategy after its grid: T taps of C channels. All sums are float32."""

from __future__ import annotations

import triton
import triton.language as tl

from .._shared.kernels import gelu_and_derivative


@triton.jit
def bounded_taps_kernel(
    hidden,  # (B, T, C): for each tap
    out_weight,  # (C, C)
    weight,  # (C, T): the static kernel
    update,  # (B, C, T): the predicted taps, not bounded
    kernel,  # (B, C, T): weight + update / (norm of the update + 1)
    C: tl.constexpr,
    T: tl.constexpr,  # taps
    BLOCK_T: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    image = tl.program_id(1).to(tl.int64)
    tap, channel = tl.arange(0, BLOCK_T), tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    is_tap, keep = tap < T, channel < C
    total = tl.zeros((BLOCK_T, BLOCK_C), dtype=tl.float32)
    for first in range(0, C, BLOCK_K):
        k = first + tl.arange(0, BLOCK_K)
        mask = is_tap[:, None] & (k < C)[None, :]
        left = tl.load(hidden + (image * T + tap)[:, None] * C + k[None, :], mask=mask, other=0.0)
        mask = (k < C)[:, None] & keep[None, :]
        right = tl.load(out_weight + channel[None, :] * C + k[:, None], mask=mask, other=0.0)
        total = tl.dot(left, right.to(tl.float32), total, allow_tf32=False)
    mask = is_tap[:, None] & keep[None, :]
    place = channel[None, :] * T + tap[:, None]
    tl.store(update + image * C * T + place, total, mask=mask)
    norm = tl.sqrt(tl.sum(total * total, axis=0))
    static = tl.load(weight + place, mask=mask, other=0.0).to(tl.float32)
    tl.store(kernel + image * C * T + place, static + total / (norm + 1.0)[None, :], mask=mask)


@triton.jit
def bounded_taps_grad_kernel(
    grad,  # (B, C, T), of the kernel
    update,  # (B, C, T): the predicted taps, not bounded
    out_weight,  # (C, C)
    before,  # (B, T, C): the hidden layer before GELU
    grad_update,  # (B, T, C)
    grad_before,  # (B, T, C)
    C: tl.constexpr,
    T: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    image = tl.program_id(1).to(tl.int64)
    tap, channel = tl.arange(0, BLOCK_T), tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    start, is_tap, keep = image * (C * T), (tap < T)[:, None], (channel < C)[None, :]
    total = tl.zeros((BLOCK_T, BLOCK_C), dtype=tl.float32)
    for first in range(0, C, BLOCK_K):
        k = first + tl.arange(0, BLOCK_K)
        mask = is_tap & (k < C)[None, :]
        # as in the bound of a predicted weight, which see; computed by each program
        place = start + k[None, :] * T + tap[:, None]
        upstream = tl.load(grad + place, mask=mask, other=0.0).to(tl.float32)
        value = tl.load(update + place, mask=mask, other=0.0)
        norm = tl.sqrt(tl.sum(value * value, axis=0))
        scale = 1.0 / (norm + 1.0)
        along = tl.sum(value * upstream, axis=0) / tl.where(norm > 0.0, norm, 1.0) * scale * scale
        result = upstream * scale[None, :] - value * along[None, :]
        if tl.program_id(0) == 0:
            tl.store(grad_update + start + tap[:, None] * C + k[None, :], result, mask=mask)
        matrix = tl.load(
            out_weight + k[:, None] * C + channel[None, :], mask=(k < C)[:, None] & keep, other=0.0
        )
        total = tl.dot(result, matrix.to(tl.float32), total, allow_tf32=False)
    place, mask = start + tap[:, None] * C + channel[None, :], is_tap & keep
    _, derivative = gelu_and_derivative(tl.load(before + place, mask=mask, other=0.0), True)
    tl.store(grad_before + place, total * derivative, mask=mask)
