"""Every prediction strategy as its formula stands, in float64 and by other means than the layers use.

Nothing is re-associated, pooled by a library or folded: sums are written out with einsum or loops.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def pooled(x: Tensor) -> Tensor:
    """Means of 2x2 windows, one after the other; ``(B, H, W, C) -> (B, Np, C)``."""
    step_y, step_x = min(2, x.shape[1]), min(2, x.shape[2])
    windows = [
        x[:, top : top + step_y, left : left + step_x].mean(dim=(1, 2))
        for top in range(0, x.shape[1] - step_y + 1, step_y)
        for left in range(0, x.shape[2] - step_x + 1, step_x)
    ]
    return torch.stack(windows, dim=1)


def correlated(left: Tensor, right: Tensor, x: Tensor) -> Tensor:
    """``leftᵀ right * Cin^-1/2 / N`` of two whole maps ``(B, Np, Cin)`` and ``(B, Np, Cout)``."""
    tokens = x.shape[1] * x.shape[2]
    return torch.einsum('bni,bno->bio', left, right) / math.sqrt(x.shape[3]) / tokens


def bilateral(p: nn.Module, x: Tensor) -> Tensor:
    hidden = silu(pooled(x) @ p.reduce.weight.T + p.reduce.bias)
    left, right = hidden[..., : len(p.expand_in)], hidden[..., len(p.expand_in) :]
    return correlated(left @ p.expand_in, right @ p.expand_out, x)


def deep(p: nn.Module, x: Tensor) -> Tensor:
    hidden = silu(pooled(x) @ p.reduce.weight.T + p.reduce.bias)
    left, right = hidden[..., : len(p.expand_in)], hidden[..., len(p.expand_in) :]
    left = silu(left @ p.in_hidden.weight.T + p.in_hidden.bias)
    right = silu(right @ p.out_hidden.weight.T + p.out_hidden.bias)
    return correlated(left @ p.expand_in, right @ p.expand_out, x)


def linear(p: nn.Module, x: Tensor) -> Tensor:
    return correlated(pooled(x) @ p.to_in.weight.T, pooled(x) @ p.to_out.weight.T, x)


def nonlinear(p: nn.Module, x: Tensor) -> Tensor:
    return correlated(silu(pooled(x) @ p.to_in.weight.T), silu(pooled(x) @ p.to_out.weight.T), x)


def gap(p: nn.Module, x: Tensor) -> Tensor:
    context = x.flatten(1, 2).sum(1) / (x.shape[1] * x.shape[2])
    left = (context @ p.to_in.weight.T + p.to_in.bias).reshape(len(x), 8, -1)
    right = (context @ p.to_out.weight.T + p.to_out.bias).reshape(len(x), 8, -1)
    return sum(left[:, k, :, None] * right[:, k, None, :] for k in range(8)) / 8


WEIGHT_UPDATES = {
    'static': lambda p, x: torch.zeros((), dtype=x.dtype),
    'gap': gap,
    'linear': linear,
    'nonlinear': nonlinear,
    'deep': deep,
    'bilateral': bilateral,
}


def dynamic_linear(layer: nn.Module, x: Tensor) -> Tensor:
    """Token by token, with the norm of each output column written out."""
    update = WEIGHT_UPDATES[layer.strategy](layer.predictor, x)
    if update.ndim == 0:
        update = update.expand(len(x), *layer.weight.shape)
    length = (update**2).sum(1, keepdim=True).sqrt()
    weight = layer.weight + update / (length + 1)
    return torch.einsum('bhwi,bio->bhwo', x, weight) + layer.bias


def grid_kernel(mlp: nn.Module, x: Tensor, size: int) -> Tensor:
    """``K (B, C, size, size)`` from means over the cells of a grid, cell by cell."""
    height, width = x.shape[1:3]
    hidden, _, out = mlp
    taps = []
    for i in range(size):
        rows = slice(i * height // size, -(-(i + 1) * height // size))
        for j in range(size):
            columns = slice(j * width // size, -(-(j + 1) * width // size))
            cell = x[:, rows, columns].mean(dim=(1, 2))
            cell = gelu(cell @ hidden.weight[:, :, 0, 0].T + hidden.bias)
            taps.append(cell @ out.weight[:, :, 0, 0].T)
    return torch.stack(taps, dim=2).reshape(len(x), -1, size, size)


def mean_mlp(mlp: nn.Module, x: Tensor) -> Tensor:
    context = x.mean(dim=(1, 2))
    hidden = gelu(context @ mlp[0].weight.T + mlp[0].bias)
    out = hidden @ mlp[2].weight.T
    return out if mlp[2].bias is None else out + mlp[2].bias


def length(kernel: Tensor) -> Tensor:
    return (kernel**2).sum((2, 3), keepdim=True).sqrt()


def adaptive_kernel(p: nn.Module, x: Tensor, size: int) -> Tensor:
    kernel = grid_kernel(p, x, size)
    return kernel / (length(kernel) + 1)


def gap_kernel(p: nn.Module, x: Tensor, size: int) -> Tensor:
    kernel = mean_mlp(p.mlp, x).reshape(len(x), -1, size, size)
    return kernel / (length(kernel) + 1)


def amp_dir_kernel(p: nn.Module, x: Tensor, size: int) -> Tensor:
    kernel = grid_kernel(p.direction, x, size)
    amplitude = torch.log1p(torch.exp(mean_mlp(p.amplitude, x)))
    return amplitude[:, :, None, None] * kernel / (length(kernel) + 1e-6)


def conv_kernel(p: nn.Module, x: Tensor, size: int) -> Tensor:
    local = p.local.weight[:, 0].expand(len(x), -1, -1, -1)
    return adaptive_kernel(p.grid, gelu(convolved(x, local, p.local.bias)[:, ::2, ::2]), size)


KERNELS = {
    'static': lambda p, x, size: torch.zeros(1, 1, size, size, dtype=x.dtype),
    'gap': gap_kernel,
    'adaptive': adaptive_kernel,
    'amp_dir': amp_dir_kernel,
    'conv': conv_kernel,
}


def convolved(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """Shifted products: ``(B, H, W, C)`` with ``(B, C, k, k)``, zeros outside."""
    height, width = x.shape[1:3]
    size = kernel.shape[-1]
    reach = size // 2
    padded = nn.functional.pad(x, (0, 0, reach, reach, reach, reach))
    products = (
        padded[:, i : i + height, j : j + width] * kernel[:, None, None, :, i, j]
        for i in range(size)
        for j in range(size)
    )
    return sum(products) + bias


def dynamic_conv(layer: nn.Module, x: Tensor) -> Tensor:
    kernel = KERNELS[layer.strategy](layer.predictor, x, layer.kernel_size)
    return convolved(x, layer.weight[:, 0] + kernel, layer.bias)
