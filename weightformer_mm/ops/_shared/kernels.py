"""Functions that kernels of several operations call; only the modules of kernels import this one."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def normal_cdf(x, density, EXACT: tl.constexpr):
    """Φ(x) of the normal distribution, given ``density = exp(-x² / 2)``.

    Exact: by erf. Else by formula 7.1.26 of Abramowitz and Stegun, whose erf is off by at most 1.5e-7, so Φ
    by at most 7.5e-8, which rounding to half precision hides; it takes fewer instructions.
    """
    if EXACT:
        return 0.5 + 0.5 * tl.erf(x * 0.7071067811865476)
    t = 1.0 / (1.0 + 0.2316418882663604 * tl.abs(x))  # 0.3275911 / √2
    tail = t * (1.061405429 * t - 1.453152027) + 1.421413741
    tail = t * (t * (t * tail - 0.284496736) + 0.254829592) * density * 0.5
    return tl.where(x < 0.0, tail, 1.0 - tail)


@triton.jit
def gelu(x, EXACT: tl.constexpr):
    return x * normal_cdf(x, tl.exp(-0.5 * x * x), EXACT)


@triton.jit
def gelu_and_derivative(x, EXACT: tl.constexpr):
    density = tl.exp(-0.5 * x * x)
    cdf = normal_cdf(x, density, EXACT)
    return x * cdf, cdf + x * density * 0.3989422804014327  # 1 / √(2π)


@triton.jit
def normalised(value, keep, channels, eps):
    """``(value - mean) / sqrt(variance + eps)`` of each row, and ``1 / sqrt(variance + eps)``."""
    average = tl.sum(value, axis=1) / channels
    centred = tl.where(keep[None, :], value - average[:, None], 0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(centred * centred, axis=1) / channels + eps)
    return centred * inverse[:, None], inverse[:, None]


@triton.jit
def cell_start(cell, length, SIZE: tl.constexpr):
    """First pixel of a cell, of which a side of ``length`` has ``SIZE``."""
    return cell * length // SIZE


@triton.jit
def cell_end(cell, length, SIZE: tl.constexpr):
    return ((cell + 1) * length + SIZE - 1) // SIZE
