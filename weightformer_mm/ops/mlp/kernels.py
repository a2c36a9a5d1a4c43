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
    BLOCK_C: tl.constexpr,  # holds all channels
    BLOCK_D: tl.constexpr,
):
    image = tl.program_id(1).to(tl.int64)
    token, c = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T), tl.arange(0, BLOCK_C)
    keep = c < C
    mask = (token < tokens)[:, None] & keep[None, :]
    offset = (image * tokens + token)[:, None] * C + c[None, :]
    left = tl.load(normed + offset, mask=mask, other=0.0)
    weight1 += image * IMAGE_STRIDE
    total = tl.zeros((BLOCK_T, BLOCK_C), dtype=tl.float32)
    for first in range(0, D, BLOCK_D):
        d = first + tl.arange(0, BLOCK_D)
        place = c[:, None] * STRIDE_C + d[None, :] * STRIDE_D
        matrix = tl.load(weight1 + place, mask=keep[:, None] & (d < D)[None, :], other=0.0)
        hidden = tl.dot(left, matrix, allow_tf32=False)
        hidden += tl.load(bias1 + d, mask=d < D, other=0.0).to(tl.float32)[None, :]
        # rounded as where the hidden layer is kept
        active = gelu(hidden.to(left.dtype).to(tl.float32), EXACT).to(left.dtype)
        place = c[None, :] * D + d[:, None]
        matrix = tl.load(weight2 + place, mask=keep[None, :] & (d < D)[:, None], other=0.0)
        total = tl.dot(active, matrix, total, allow_tf32=False)
    total += tl.load(bias2 + c, mask=keep, other=0.0).to(tl.float32)[None, :]
    if scale is not None:
        total *= tl.load(scale + image).to(tl.float32)
    total += tl.load(x + offset, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + offset, total.to(out.dtype.element_ty), mask=mask)
