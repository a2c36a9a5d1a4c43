"""Triton's kernel of a whole MLP; only this module of the operation imports Triton. Sums are float32."""

from __future__ import annotations

import triton
import triton.language as tl

from .._shared.kernels import gelu


@triton.jit(do_not_specialize=['tokens'])
def mlp_kernel(
    x,  # (B, tokens, C)
    normed,  # (B, tokens, C)
    weight1,  # (B or 1, C, D), each matrix with the strides below
    bias1,  # (D,)
    weight2,  # (C, D)
    bias2,  # (C,)
    scale,  # (B,) or None
    out,  # (B, tokens, C): x + scale * (GELU(normed weight1 + bias1) weight2ᵀ + bias2)
    tokens,  # of an image
    IMAGE_STRIDE: tl.constexpr,  # elements from one image's matrix to the next one's
    C: tl.constexpr,
    D: tl.constexpr,
    STRIDE_C: tl.constexpr,
    STRIDE_D: tl.constexpr,
    EXACT: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_C: tl.constexpr,  # with BLOCK_R it holds all channels
    BLOCK_R: tl.constexpr,  # the rest of the channels, or 0
    BLOCK_D: tl.constexpr,
):
    image = tl.program_id(1).to(tl.int64)
    token, c = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T), tl.arange(0, BLOCK_C)
    here, row = (token < tokens)[:, None], (image * tokens + token)[:, None] * C
    left = tl.load(normed + row + c[None, :], mask=here & (c < C)[None, :], other=0.0)
    total = tl.zeros((BLOCK_T, BLOCK_C), dtype=tl.float32)
    if BLOCK_R > 0:
        r = BLOCK_C + tl.arange(0, BLOCK_R)
        left_rest = tl.load(normed + row + r[None, :], mask=here & (r < C)[None, :], other=0.0)
        rest = tl.zeros((BLOCK_T, BLOCK_R), dtype=tl.float32)
    weight1 += image * IMAGE_STRIDE
    for first in range(0, D, BLOCK_D):
        d = first + tl.arange(0, BLOCK_D)
        matrix = _matrix(weight1, c, d, C, D, STRIDE_C, STRIDE_D)
        hidden = tl.dot(left, matrix, allow_tf32=False)
        if BLOCK_R > 0:
            matrix = _matrix(weight1, r, d, C, D, STRIDE_C, STRIDE_D)
            hidden = tl.dot(left_rest, matrix, hidden, allow_tf32=False)
        hidden += tl.load(bias1 + d, mask=d < D, other=0.0).to(tl.float32)[None, :]
        # rounded as where the hidden layer is kept
        active = gelu(hidden.to(left.dtype).to(tl.float32), EXACT).to(left.dtype)
        total = tl.dot(active, _matrix(weight2, d, c, D, C, 1, D), total, allow_tf32=False)
        if BLOCK_R > 0:
            rest = tl.dot(active, _matrix(weight2, d, r, D, C, 1, D), rest, allow_tf32=False)
    factor = 1.0
    if scale is not None:
        factor = tl.load(scale + image).to(tl.float32)
    _add(x, total, bias2, factor, out, row, c, here, C)
    if BLOCK_R > 0:
        _add(x, rest, bias2, factor, out, row, r, here, C)


@triton.jit
def _matrix(
    start, row, column, ROWS: tl.constexpr, COLUMNS: tl.constexpr, STRIDE_ROW: tl.constexpr,
    STRIDE_COLUMN: tl.constexpr,
):  # fmt: skip
    mask = (row < ROWS)[:, None] & (column < COLUMNS)[None, :]
    place = row[:, None] * STRIDE_ROW + column[None, :] * STRIDE_COLUMN
    return tl.load(start + place, mask=mask, other=0.0)


@triton.jit
def _add(x, branch, bias, factor, out, row, channel, here, C: tl.constexpr):
    keep = channel < C
    offset, mask = row + channel[None, :], here & keep[None, :]
    branch += tl.load(bias + channel, mask=keep, other=0.0).to(tl.float32)[None, :]
    branch = branch * factor + tl.load(x + offset, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + offset, branch.to(out.dtype.element_ty), mask=mask)
