"""Triton kernel of the gradient of a LayerNorm that followed the convolution, and its launcher."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# Elements of a tile and warps of its program: 8 elements per thread
TILE, WARPS = 2048, 8
PROGRAMS = 1024


@triton.jit(do_not_specialize=['positions', 'share'])
def _norm_grad_kernel(
    grad_normed,  # (positions, C)
    grad_out,  # (positions, C), or not read
    out,  # (positions, C)
    mean,  # (positions,)
    rstd,  # (positions,)
    weight,  # (C,)
    grad,  # (positions, C)
    partial,  # (programs, 2, C): sums for weight and bias
    positions,
    share,  # positions of a program, a multiple of BLOCK_N
    channels,
    HAS_GRAD_OUT: tl.constexpr,
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
        inside = position < positions
        mask = inside[:, None] & keep[None, :]
        offset = position[:, None] * channels + channel[None, :]
        average = tl.load(mean + position, mask=inside, other=0.0)
        inverse = tl.load(rstd + position, mask=inside, other=0.0)[:, None]
        upstream = tl.load(grad_normed + offset, mask=mask, other=0.0).to(tl.float32)
        value = tl.load(out + offset, mask=mask, other=0.0).to(tl.float32)
        normal = tl.where(mask, (value - average[:, None]) * inverse, 0.0)
        weight_sum += upstream * normal
        bias_sum += upstream
        scaled = upstream * scale
        along_mean = (tl.sum(scaled, axis=1) / channels)[:, None]
        along_normal = (tl.sum(scaled * normal, axis=1) / channels)[:, None]
        total = (scaled - along_mean - normal * along_normal) * inverse
        if HAS_GRAD_OUT:
            total += tl.load(grad_out + offset, mask=mask, other=0.0).to(tl.float32)
        tl.store(grad + offset, total.to(grad.dtype.element_ty), mask=mask)
    partial += program * 2 * channels
    tl.store(partial + channel, tl.sum(weight_sum, axis=0), mask=keep)
    tl.store(partial + channels + channel, tl.sum(bias_sum, axis=0), mask=keep)


def norm_grad(
    grad_normed: Tensor,
    grad_out: Tensor | None,
    out: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of what a LayerNorm took, with ``grad_out`` added, and of its weight and bias; no atomics.

    Args:
        grad_normed: ``(B, H, W, C)``, the gradient of the LayerNorm's output.
        grad_out: ``(B, H, W, C)``, what else arrives at ``out``, or None.
        out: ``(B, H, W, C)``, the LayerNorm's input.
        mean: ``(B, H, W)``, float32.
        rstd: ``(B, H, W)``, float32.
        weight: ``(C,)``.

    Returns:
        ``(B, H, W, C)`` of the type of ``out``; ``(C,)`` and ``(C,)``, float32.
    """
    grad_normed, out, weight = grad_normed.contiguous(), out.contiguous(), weight.contiguous()
    has_grad_out = grad_out is not None
    grad_out = grad_out.contiguous() if has_grad_out else grad_normed
    grad = out.new_empty(out.shape)
    channels, positions = out.shape[3], mean.numel()
    block_c = triton.next_power_of_2(channels)
    block_n = max(1, TILE // block_c)
    share = triton.cdiv(triton.cdiv(positions, PROGRAMS), block_n) * block_n
    programs = triton.cdiv(positions, share) if positions else 0
    partial = out.new_empty((programs, 2, channels), dtype=torch.float32)
    if programs:
        _norm_grad_kernel[(programs,)](
            *(grad_normed, grad_out, out, mean, rstd, weight, grad, partial),
            *(positions, share, channels),
            HAS_GRAD_OUT=has_grad_out,
            BLOCK_N=block_n,
            BLOCK_C=block_c,
            num_warps=WARPS,
        )
    return grad, partial[:, 0].sum(0), partial[:, 1].sum(0)
