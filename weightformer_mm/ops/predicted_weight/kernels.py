"""Triton kernels for a weight predicted from all tokens; only this module of the operation imports Triton.

All maps are channels-last and all sums are float32. Offsets into tensors are 64-bit. Widths are known when a
kernel is compiled, but numbers of images and tokens are not: a new image size compiles nothing.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=['height', 'width'])
def pool_kernel(
    x,  # (B, H, W, C)
    out,  # (B, H // WINDOW_H * W // WINDOW_W, C)
    height,
    width,
    C: tl.constexpr,
    WINDOW_H: tl.constexpr,
    WINDOW_W: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    channel_blocks: tl.constexpr = (C + BLOCK_C - 1) // BLOCK_C
    image = tl.program_id(1).to(tl.int64)
    rows, columns = height // WINDOW_H, width // WINDOW_W
    token = tl.program_id(0) // channel_blocks * BLOCK_T + tl.arange(0, BLOCK_T)
    channel = tl.program_id(0) % channel_blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    mask = (token < rows * columns)[:, None] & (channel < C)[None, :]
    corner = (image * height + token // columns * WINDOW_H) * width + token % columns * WINDOW_W
    total = tl.zeros((BLOCK_T, BLOCK_C), dtype=tl.float32)
    for i in tl.static_range(WINDOW_H):
        for j in tl.static_range(WINDOW_W):
            offset = (corner + i * width + j)[:, None] * C + channel[None, :]
            total += tl.load(x + offset, mask=mask, other=0.0).to(tl.float32)
    mean = total * (1.0 / (WINDOW_H * WINDOW_W))
    offset = (image * rows * columns + token)[:, None] * C + channel[None, :]
    tl.store(out + offset, mean.to(out.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=['height', 'width'])
def unpool_kernel(
    grad,  # (B, Np, C)
    out,  # (B, H, W, C): the share of each token in the gradient of the means
    height,
    width,
    C: tl.constexpr,
    WINDOW_H: tl.constexpr,
    WINDOW_W: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    channel_blocks: tl.constexpr = (C + BLOCK_C - 1) // BLOCK_C
    image = tl.program_id(1).to(tl.int64)
    rows, columns = height // WINDOW_H, width // WINDOW_W
    token = tl.program_id(0) // channel_blocks * BLOCK_T + tl.arange(0, BLOCK_T)
    channel = tl.program_id(0) % channel_blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    row, column = token // width // WINDOW_H, token % width // WINDOW_W
    covered = ((row < rows) & (column < columns))[:, None]
    inside = (token < height * width)[:, None] & (channel < C)[None, :]
    source = (image * rows * columns + row * columns + column)[:, None] * C + channel[None, :]
    value = tl.load(grad + source, mask=inside & covered, other=0.0).to(tl.float32)
    value *= 1.0 / (WINDOW_H * WINDOW_W)
    target = (image * height * width + token)[:, None] * C + channel[None, :]
    tl.store(out + target, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _silu(x):
    return x * tl.sigmoid(x)


@triton.jit
def _silu_derivative(x):
    sigmoid = tl.sigmoid(x)
    return sigmoid * (1.0 + x * (1.0 - sigmoid))


@triton.jit(do_not_specialize=['tokens', 'tokens_per_split'])
def correlation_kernel(
    z,  # (B, Np, P + Q)
    out,  # (splits, B, P, Q), float32: SiLU(z[..., :P])ᵀ SiLU(z[..., P:]) * scale over the tokens of a split
    tokens,
    tokens_per_split,
    scale,
    P: tl.constexpr,
    Q: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_T: tl.constexpr,
):
    q_blocks: tl.constexpr = (Q + BLOCK_Q - 1) // BLOCK_Q
    split, image = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    p = tl.program_id(0) // q_blocks * BLOCK_P + tl.arange(0, BLOCK_P)
    q = tl.program_id(0) % q_blocks * BLOCK_Q + tl.arange(0, BLOCK_Q)
    start = tl.program_id(1) * tokens_per_split
    end = tl.minimum(start + tokens_per_split, tokens)
    total = tl.zeros((BLOCK_P, BLOCK_Q), dtype=tl.float32)
    for first in range(start, end, BLOCK_T):
        token = first + tl.arange(0, BLOCK_T)
        here = (token < end)[:, None]
        row = z + (image * tokens + token)[:, None] * (P + Q)
        left = tl.load(row + p[None, :], mask=here & (p < P)[None, :], other=0.0)
        right = tl.load(row + P + q[None, :], mask=here & (q < Q)[None, :], other=0.0)
        # scaled before the sum: no partial sum exceeds the largest product of the two sides
        left = _silu(left.to(tl.float32)) * scale
        total += tl.dot(tl.trans(left), _silu(right.to(tl.float32)), allow_tf32=False)
    offset = ((split * tl.num_programs(2) + image) * P + p)[:, None] * Q + q[None, :]
    tl.store(out + offset, total, mask=(p < P)[:, None] & (q < Q)[None, :])


@triton.jit
def _correlation_side(
    z,  # first row of the image, (Np, WIDTH)
    core,  # gradient of the image's core; element (own, other) at own * CORE_OWN + other * CORE_OTHER
    out,  # as z
    token,
    tokens,
    own_block,
    scale,
    OWN: tl.constexpr,
    OTHER: tl.constexpr,
    OWN_START: tl.constexpr,
    OTHER_START: tl.constexpr,
    CORE_OWN: tl.constexpr,
    CORE_OTHER: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_OWN: tl.constexpr,
    BLOCK_OTHER: tl.constexpr,
):
    """Gradient of one side: ``silu'(z_own) * (SiLU(z_other) @ core) * scale``."""
    row = token.to(tl.int64)[:, None] * (OWN + OTHER)
    here = (token < tokens)[:, None]
    own = own_block * BLOCK_OWN + tl.arange(0, BLOCK_OWN)
    total = tl.zeros((BLOCK_T, BLOCK_OWN), dtype=tl.float32)
    for start in range(0, OTHER, BLOCK_OTHER):
        other = start + tl.arange(0, BLOCK_OTHER)
        left_mask = here & (other < OTHER)[None, :]
        left = tl.load(z + row + OTHER_START + other[None, :], mask=left_mask, other=0.0)
        right = tl.load(
            core + other[:, None] * CORE_OTHER + own[None, :] * CORE_OWN,
            mask=(other < OTHER)[:, None] & (own < OWN)[None, :],
            other=0.0,
        )
        # scaled before the sum, as in the forward pass
        left = _silu(left.to(tl.float32)) * scale
        total += tl.dot(left, right.to(tl.float32), allow_tf32=False)
    mask = here & (own < OWN)[None, :]
    offset = row + OWN_START + own[None, :]
    total *= _silu_derivative(tl.load(z + offset, mask=mask, other=0.0).to(tl.float32))
    tl.store(out + offset, total.to(out.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=['tokens'])
def correlation_backward_kernel(
    grad,  # (B, P, Q), float32
    z,  # (B, Np, P + Q)
    out,  # (B, Np, P + Q)
    tokens,
    scale,
    P: tl.constexpr,
    Q: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_OWN: tl.constexpr,
    BLOCK_OTHER: tl.constexpr,
):
    # neighbouring programs share tokens: one reads them from memory, the others from the cache
    p_blocks: tl.constexpr = (P + BLOCK_OWN - 1) // BLOCK_OWN
    q_blocks: tl.constexpr = (Q + BLOCK_OWN - 1) // BLOCK_OWN
    image = tl.program_id(1).to(tl.int64)
    token = tl.program_id(0) // (p_blocks + q_blocks) * BLOCK_T + tl.arange(0, BLOCK_T)
    block = tl.program_id(0) % (p_blocks + q_blocks)
    map_start, core = image * tokens * (P + Q), grad + image * (P * Q)
    if block < p_blocks:
        _correlation_side(
            z + map_start, core, out + map_start, token, tokens, block, scale,
            P, Q, 0, P, Q, 1, BLOCK_T, BLOCK_OWN, BLOCK_OTHER,
        )  # fmt: skip
    else:
        _correlation_side(
            z + map_start, core, out + map_start, token, tokens, block - p_blocks, scale,
            Q, P, P, 0, 1, Q, BLOCK_T, BLOCK_OWN, BLOCK_OTHER,
        )  # fmt: skip


@triton.jit
def rows_of(start, first, m, K: tl.constexpr, M: tl.constexpr, BLOCK_K: tl.constexpr):
    """Offsets and mask of ``BLOCK_K`` rows from ``first`` and columns ``m`` of a ``(K, M)`` at ``start``."""
    k = first + tl.arange(0, BLOCK_K)
    return start + k[:, None] * M + m[None, :], (k < K)[:, None] & (m < M)[None, :]


@triton.jit
def bound_kernel(
    update,  # (B, K, M)
    weight,  # (K, M)
    out,  # (B, K, M)
    K: tl.constexpr,
    M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    start = tl.program_id(1).to(tl.int64) * (K * M)
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    squares = tl.zeros((BLOCK_K, BLOCK_M), dtype=tl.float32)
    for first in range(0, K, BLOCK_K):
        offset, mask = rows_of(start, first, m, K, M, BLOCK_K)
        value = tl.load(update + offset, mask=mask, other=0.0).to(tl.float32)
        squares += value * value
    scale = 1.0 / (tl.sqrt(tl.sum(squares, axis=0)) + 1.0)  # (BLOCK_M,)
    for first in range(0, K, BLOCK_K):
        place, mask = rows_of(0, first, m, K, M, BLOCK_K)
        value = tl.load(update + start + place, mask=mask, other=0.0).to(tl.float32)
        static = tl.load(weight + place, mask=mask, other=0.0).to(tl.float32)
        result = static + value * scale[None, :]
        tl.store(out + start + place, result.to(out.dtype.element_ty), mask=mask)


@triton.jit
def bound_of_columns(
    grad, update, start, m, K: tl.constexpr, M: tl.constexpr, BLOCK_K: tl.constexpr,
    BLOCK_M: tl.constexpr,
):  # fmt: skip
    """Factors of the gradient and the update in columns ``m`` of a ``(K, M)`` at ``start``, ``(BLOCK_M,)``.

    With n = ‖v‖, s = 1 / (n + 1): the gradient of v is g s - v (g · v) s² / n, and g for v = 0.
    """
    squares = tl.zeros((BLOCK_K, BLOCK_M), dtype=tl.float32)
    products = tl.zeros((BLOCK_K, BLOCK_M), dtype=tl.float32)
    for first in range(0, K, BLOCK_K):
        offset, mask = rows_of(start, first, m, K, M, BLOCK_K)
        value = tl.load(update + offset, mask=mask, other=0.0).to(tl.float32)
        squares += value * value
        products += value * tl.load(grad + offset, mask=mask, other=0.0).to(tl.float32)
    norm = tl.sqrt(tl.sum(squares, axis=0))
    scale = 1.0 / (norm + 1.0)
    # divided by the norm first: the quotient does not exceed the gradient's length
    return scale, tl.sum(products, axis=0) / tl.where(norm > 0.0, norm, 1.0) * scale * scale


@triton.jit
def bound_backward_kernel(
    grad,  # (B, K, M)
    update,  # (B, K, M)
    out,  # (B, K, M), the gradient of update
    K: tl.constexpr,
    M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    start = tl.program_id(1).to(tl.int64) * (K * M)
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    scale, along = bound_of_columns(grad, update, start, m, K, M, BLOCK_K, BLOCK_M)
    for first in range(0, K, BLOCK_K):
        offset, mask = rows_of(start, first, m, K, M, BLOCK_K)
        value = tl.load(update + offset, mask=mask, other=0.0).to(tl.float32)
        upstream = tl.load(grad + offset, mask=mask, other=0.0).to(tl.float32)
        result = upstream * scale[None, :] - value * along[None, :]
        tl.store(out + offset, result.to(out.dtype.element_ty), mask=mask)
