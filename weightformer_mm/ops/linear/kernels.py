"""Triton kernels of products of tokens with a matrix; only this module of the operation imports Triton.

Matrices are known when a kernel is compiled, but numbers of images and tokens are not. All sums are float32.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .._shared.kernels import gelu, gelu_and_derivative


@triton.jit(do_not_specialize=['tokens', 'weight_stride'])
def linear_kernel(
    x,  # (B, tokens, K)
    weight,  # (B or 1, K, N), each matrix with the strides below
    bias,  # (N,) or None
    scale,  # (B,), a factor of the result, or None
    residual,  # (B, tokens, N), added at last, or None
    hidden,  # (B, tokens, N), the result is multiplied by GELU'(hidden); or None
    out,  # (B, tokens, N)
    second,  # (B, tokens, N): the result before GELU, or GELU(hidden); or None
    tokens,  # of an image
    weight_stride,  # elements from one image's matrix to the next one's
    K: tl.constexpr,
    N: tl.constexpr,
    STRIDE_K: tl.constexpr,
    STRIDE_N: tl.constexpr,
    GELU: tl.constexpr,
    EXACT: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    # the blocks of columns vary fastest: one reads the tokens from memory, the others from the cache
    blocks: tl.constexpr = (N + BLOCK_N - 1) // BLOCK_N
    image = tl.program_id(1).to(tl.int64)
    token = tl.program_id(0) // blocks * BLOCK_T + tl.arange(0, BLOCK_T)
    n = tl.program_id(0) % blocks * BLOCK_N + tl.arange(0, BLOCK_N)
    here = (token < tokens)[:, None]
    row = (image * tokens + token)[:, None]
    column = weight + image * weight_stride + n[None, :] * STRIDE_N
    total = tl.zeros((BLOCK_T, BLOCK_N), dtype=tl.float32)
    for first in range(0, K, BLOCK_K):
        k = first + tl.arange(0, BLOCK_K)
        left = tl.load(x + row * K + k[None, :], mask=here & (k < K)[None, :], other=0.0)
        mask = (k < K)[:, None] & (n < N)[None, :]
        right = tl.load(column + k[:, None] * STRIDE_K, mask=mask, other=0.0)
        total = tl.dot(left, right.to(left.dtype), total, allow_tf32=False)
    mask = here & (n < N)[None, :]
    offset = row * N + n[None, :]
    if bias is not None:
        total += tl.load(bias + n, mask=n < N, other=0.0).to(tl.float32)[None, :]
    if GELU:
        total = total.to(out.dtype.element_ty)
        if second is not None:
            tl.store(second + offset, total, mask=mask)
        total = gelu(total.to(tl.float32), EXACT)  # as rounded: the gradient sees only that
    if hidden is not None:
        before = tl.load(hidden + offset, mask=mask, other=0.0).to(tl.float32)
        value, derivative = gelu_and_derivative(before, EXACT)
        tl.store(second + offset, value.to(second.dtype.element_ty), mask=mask)
        total *= derivative
    if scale is not None:
        total *= tl.load(scale + image).to(tl.float32)
    if residual is not None:
        total += tl.load(residual + offset, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + offset, total.to(out.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=['tokens', 'share'])
def weight_grad_kernel(
    left,  # (B, tokens, K)
    right,  # (B, tokens, N)
    partial,  # (splits, B, K * N + N), float32: leftᵀ right of a split, and the sums of right over its tokens
    tokens,  # of an image
    share,  # tokens of a split
    K: tl.constexpr,
    N: tl.constexpr,
    STRIDE_K: tl.constexpr,
    STRIDE_N: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    blocks: tl.constexpr = (N + BLOCK_N - 1) // BLOCK_N
    split, image = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    k = tl.program_id(0) // blocks * BLOCK_K + tl.arange(0, BLOCK_K)
    n = tl.program_id(0) % blocks * BLOCK_N + tl.arange(0, BLOCK_N)
    start = tl.program_id(1) * share
    end = tl.minimum(start + share, tokens)
    total = tl.zeros((BLOCK_K, BLOCK_N), dtype=tl.float32)
    sums = tl.zeros((BLOCK_N,), dtype=tl.float32)
    for first in range(start, end, BLOCK_T):
        token = first + tl.arange(0, BLOCK_T)
        here = token < end
        row = image * tokens + token
        one = tl.load(
            left + row[None, :] * K + k[:, None], mask=here[None, :] & (k < K)[:, None], other=0.0
        )
        other = tl.load(
            right + row[:, None] * N + n[None, :], mask=here[:, None] & (n < N)[None, :], other=0.0
        )
        total = tl.dot(one, other, total, allow_tf32=False)
        sums += tl.sum(other.to(tl.float32), axis=0)
    start_of_split = partial + (split * tl.num_programs(2) + image) * (K * N + N)
    offset = k[:, None] * STRIDE_K + n[None, :] * STRIDE_N
    tl.store(start_of_split + offset, total, mask=(k < K)[:, None] & (n < N)[None, :])
    if tl.program_id(0) // blocks == 0:
        tl.store(start_of_split + K * N + n, sums, mask=n < N)
