"""Triton kernels of the ``bilateral`` strategy that replace several of the general ones."""

from __future__ import annotations

import triton
import triton.language as tl

from .kernels import bound_of_columns, rows_of


@triton.jit(do_not_specialize=['height', 'width'])
def pooled_linear_kernel(
    x,  # (B, H, W, C)
    weight,  # (N, C)
    bias,  # (N,)
    out,  # (B, Np, N), float32: of the means over windows of tokens
    pooled,  # (B, Np, C), float32: these means, or None
    height,
    width,
    C: tl.constexpr,
    N: tl.constexpr,
    WINDOW_H: tl.constexpr,
    WINDOW_W: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    blocks: tl.constexpr = (N + BLOCK_N - 1) // BLOCK_N
    image = tl.program_id(1).to(tl.int64)
    rows, columns = height // WINDOW_H, width // WINDOW_W
    token = tl.program_id(0) // blocks * BLOCK_T + tl.arange(0, BLOCK_T)
    n = tl.program_id(0) % blocks * BLOCK_N + tl.arange(0, BLOCK_N)
    here = (token < rows * columns)[:, None]
    corner = (image * height + token // columns * WINDOW_H) * width + token % columns * WINDOW_W
    place = (image * rows * columns + token)[:, None]
    total = tl.zeros((BLOCK_T, BLOCK_N), dtype=tl.float32)
    for first in range(0, C, BLOCK_K):
        k = first + tl.arange(0, BLOCK_K)
        mask = here & (k < C)[None, :]
        mean = tl.zeros((BLOCK_T, BLOCK_K), dtype=tl.float32)
        for i in tl.static_range(WINDOW_H):
            for j in tl.static_range(WINDOW_W):
                offset = (corner + i * width + j)[:, None] * C + k[None, :]
                mean += tl.load(x + offset, mask=mask, other=0.0).to(tl.float32)
        mean *= 1.0 / (WINDOW_H * WINDOW_W)
        if pooled is not None:
            if tl.program_id(0) % blocks == 0:
                tl.store(pooled + place * C + k[None, :], mean, mask=mask)
        mask = (k < C)[:, None] & (n < N)[None, :]
        right = tl.load(weight + n[None, :] * C + k[:, None], mask=mask, other=0.0)
        total = tl.dot(mean, right.to(tl.float32), total, allow_tf32=False)
    total += tl.load(bias + n, mask=n < N, other=0.0).to(tl.float32)[None, :]
    tl.store(out + place * N + n[None, :], total, mask=here & (n < N)[None, :])


@triton.jit(do_not_specialize=['splits'])
def bilateral_weight_kernel(
    cores,  # (splits, B, P, Q), float32: their sum is the core
    expand_in,  # (P, C)
    expand_out,  # (Q, M)
    weight,  # (C, M)
    update,  # (B, C, M), float32: expand_inᵀ core expand_out; or None
    out,  # (B, C, M): weight + update / (norm of each column of the update + 1)
    total,  # (B, P, Q), float32: the core; or None
    splits,
    P: tl.constexpr,
    Q: tl.constexpr,
    C: tl.constexpr,
    M: tl.constexpr,
    BLOCK_P: tl.constexpr,  # holds all of P
    BLOCK_Q: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    image, images = tl.program_id(1).to(tl.int64), tl.num_programs(1)
    p, m = tl.arange(0, BLOCK_P), tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    right = tl.zeros((BLOCK_P, BLOCK_M), dtype=tl.float32)  # core expand_out
    for first in range(0, Q, BLOCK_Q):
        q = first + tl.arange(0, BLOCK_Q)
        mask = (p < P)[:, None] & (q < Q)[None, :]
        core = tl.zeros((BLOCK_P, BLOCK_Q), dtype=tl.float32)
        for split in range(0, splits):
            part = cores + (split * images + image) * (P * Q)
            core += tl.load(part + p[:, None] * Q + q[None, :], mask=mask, other=0.0)
        if total is not None:
            if tl.program_id(0) == 0:
                place = image * (P * Q) + p[:, None] * Q + q[None, :]
                tl.store(total + place, core, mask=mask)
        mask = (q < Q)[:, None] & (m < M)[None, :]
        value = tl.load(expand_out + q[:, None] * M + m[None, :], mask=mask, other=0.0)
        right = tl.dot(core, value.to(tl.float32), right, allow_tf32=False)
    squares = tl.zeros((BLOCK_M,), dtype=tl.float32)
    for first in range(0, C, BLOCK_C):
        value = _expanded(expand_in, right, first, p, P, C, BLOCK_C)
        squares += tl.sum(value * value, axis=0)
    scale = 1.0 / (tl.sqrt(squares) + 1.0)
    start = image * (C * M)
    for first in range(0, C, BLOCK_C):
        value = _expanded(expand_in, right, first, p, P, C, BLOCK_C)
        place, mask = rows_of(0, first, m, C, M, BLOCK_C)
        if update is not None:
            tl.store(update + start + place, value, mask=mask)
        static = tl.load(weight + place, mask=mask, other=0.0).to(tl.float32)
        result = static + value * scale[None, :]
        tl.store(out + start + place, result.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _expanded(expand_in, right, first, p, P: tl.constexpr, C: tl.constexpr, BLOCK_C: tl.constexpr):
    """Rows of the update from ``first`` on."""
    c = first + tl.arange(0, BLOCK_C)
    mask = (c < C)[:, None] & (p < P)[None, :]
    left = tl.load(expand_in + p[None, :] * C + c[:, None], mask=mask, other=0.0)
    return tl.dot(left.to(tl.float32), right, allow_tf32=False)


@triton.jit
def bilateral_columns_grad_kernel(
    grad,  # (B, C, M), of the predicted weight
    update,  # (B, C, M)
    core,  # (B, P, Q)
    expand_in,  # (P, C)
    expand_out,  # (Q, M)
    grad_update,  # (B, C, M), float32
    left,  # (B, P, M), float32: core expand_out
    right,  # (B, P, M), float32: expand_in grad_update
    grad_out,  # (B, Q, M), float32: coreᵀ right
    P: tl.constexpr,
    Q: tl.constexpr,
    C: tl.constexpr,
    M: tl.constexpr,
    BLOCK_P: tl.constexpr,  # holds all of P
    BLOCK_Q: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    """All that concerns only a few columns."""
    image = tl.program_id(1).to(tl.int64)
    p, m = tl.arange(0, BLOCK_P), tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    start = image * (C * M)
    scale, along = bound_of_columns(grad, update, start, m, C, M, BLOCK_C, BLOCK_M)
    inner = tl.zeros((BLOCK_P, BLOCK_M), dtype=tl.float32)
    for first in range(0, C, BLOCK_C):
        offset, mask = rows_of(start, first, m, C, M, BLOCK_C)
        value = tl.load(update + offset, mask=mask, other=0.0).to(tl.float32)
        upstream = tl.load(grad + offset, mask=mask, other=0.0).to(tl.float32)
        result = upstream * scale[None, :] - value * along[None, :]
        tl.store(grad_update + offset, result, mask=mask)
        c = first + tl.arange(0, BLOCK_C)
        mask = (p < P)[:, None] & (c < C)[None, :]
        matrix = tl.load(expand_in + p[:, None] * C + c[None, :], mask=mask, other=0.0)
        inner = tl.dot(matrix.to(tl.float32), result, inner, allow_tf32=False)
    outer = tl.zeros((BLOCK_P, BLOCK_M), dtype=tl.float32)
    core += image * (P * Q)
    for first in range(0, Q, BLOCK_Q):
        q = first + tl.arange(0, BLOCK_Q)
        mask = (p < P)[:, None] & (q < Q)[None, :]
        part = tl.load(core + p[:, None] * Q + q[None, :], mask=mask, other=0.0)
        place, mask = rows_of(0, first, m, Q, M, BLOCK_Q)
        value = tl.load(expand_out + place, mask=mask, other=0.0).to(tl.float32)
        outer = tl.dot(part, value, outer, allow_tf32=False)
        product = tl.dot(tl.trans(part), inner, allow_tf32=False)
        tl.store(grad_out + image * (Q * M) + place, product, mask=mask)
    place, mask = rows_of(image * (P * M), 0, m, P, M, BLOCK_P)
    tl.store(left + place, outer, mask=mask)
    tl.store(right + place, inner, mask=mask)


@triton.jit
def bilateral_sides_grad_kernel(
    left,  # (B, P, M)
    right,  # (B, P, M)
    grad_update,  # (B, C, M)
    expand_out,  # (Q, M)
    grad_in,  # (B, P, C), float32: left grad_updateᵀ
    grad_core,  # (B, P, Q), float32: right expand_outᵀ
    P: tl.constexpr,
    Q: tl.constexpr,
    C: tl.constexpr,
    M: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    """All that sums over the columns."""
    c_blocks: tl.constexpr = (C + BLOCK_N - 1) // BLOCK_N
    q_blocks: tl.constexpr = (Q + BLOCK_N - 1) // BLOCK_N
    image = tl.program_id(1).to(tl.int64)
    p = tl.program_id(0) // (c_blocks + q_blocks) * BLOCK_P + tl.arange(0, BLOCK_P)
    block = tl.program_id(0) % (c_blocks + q_blocks)
    total = tl.zeros((BLOCK_P, BLOCK_N), dtype=tl.float32)
    if block >= c_blocks:
        n = (block - c_blocks) * BLOCK_N + tl.arange(0, BLOCK_N)
        total = _along_rows(right + image * (P * M), expand_out, total, p, n, P, Q, M, BLOCK_M)
        mask = (p < P)[:, None] & (n < Q)[None, :]
        tl.store(grad_core + image * (P * Q) + p[:, None] * Q + n[None, :], total, mask=mask)
    else:
        n = block * BLOCK_N + tl.arange(0, BLOCK_N)
        left += image * (P * M)
        grad_update += image * (C * M)
        total = _along_rows(left, grad_update, total, p, n, P, C, M, BLOCK_M)
        mask = (p < P)[:, None] & (n < C)[None, :]
        tl.store(grad_in + image * (P * C) + p[:, None] * C + n[None, :], total, mask=mask)


@triton.jit
def _along_rows(
    left, right, total, p, n, P: tl.constexpr, N: tl.constexpr, M: tl.constexpr, BLOCK_M: tl.constexpr
):  # fmt: skip
    """``total + left rightᵀ`` at rows ``p`` and columns ``n``, with ``left (P, M)`` and ``right (N, M)``."""
    for first in range(0, M, BLOCK_M):
        m = first + tl.arange(0, BLOCK_M)
        mask = (p < P)[:, None] & (m < M)[None, :]
        one = tl.load(left + p[:, None] * M + m[None, :], mask=mask, other=0.0)
        mask = (n < N)[None, :] & (m < M)[:, None]
        other = tl.load(right + n[None, :] * M + m[:, None], mask=mask, other=0.0)
        total = tl.dot(one, other.to(tl.float32), total, allow_tf32=False)
    return total


@triton.jit(do_not_specialize=['height', 'width'])
def pooled_linear_grad_kernel(
    grad,  # (B, Np, N), of the products of the means over windows of tokens
    weight,  # (N, C)
    other,  # (B, H, W, C), added; or None
    out,  # (B, H, W, C): each token's share of the gradient of the means
    height,
    width,
    C: tl.constexpr,
    N: tl.constexpr,
    WINDOW_H: tl.constexpr,
    WINDOW_W: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    blocks: tl.constexpr = (C + BLOCK_C - 1) // BLOCK_C
    image = tl.program_id(1).to(tl.int64)
    rows, columns = height // WINDOW_H, width // WINDOW_W
    across = tl.cdiv(width, WINDOW_W)  # with the windows that the border cuts, which have no mean
    window = tl.program_id(0) // blocks * BLOCK_T + tl.arange(0, BLOCK_T)
    c = tl.program_id(0) % blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    row, column = window // across, window % across
    whole = (row < rows) & (column < columns)
    place = (image * rows * columns + row * columns + column)[:, None] * N
    total = tl.zeros((BLOCK_T, BLOCK_C), dtype=tl.float32)
    for first in range(0, N, BLOCK_K):
        n = first + tl.arange(0, BLOCK_K)
        mask = whole[:, None] & (n < N)[None, :]
        left = tl.load(grad + place + n[None, :], mask=mask, other=0.0)
        mask = (n < N)[:, None] & (c < C)[None, :]
        right = tl.load(weight + n[:, None] * C + c[None, :], mask=mask, other=0.0)
        total = tl.dot(left, right.to(tl.float32), total, allow_tf32=False)
    total *= 1.0 / (WINDOW_H * WINDOW_W)
    for i in tl.static_range(WINDOW_H):
        for j in tl.static_range(WINDOW_W):
            y, x = row * WINDOW_H + i, column * WINDOW_W + j
            mask = ((y < height) & (x < width))[:, None] & (c < C)[None, :]
            offset = ((image * height + y) * width + x)[:, None] * C + c[None, :]
            value = total
            if other is not None:
                value += tl.load(other + offset, mask=mask, other=0.0).to(tl.float32)
            tl.store(out + offset, value.to(out.dtype.element_ty), mask=mask)
