"""The convolution and its prediction in PyTorch: the fastest eager form, and operators for ``torch.compile``.

Milliseconds of the convolution on two CPU cores, forward / forward and backward, for maps ``(B, H, W, C)``:

    float32                       1x256x256x64    1x64x64x320   4x64x64x64    4x14x14x384
    folded batch, channels-last   0.75 /   4.3    0.35 /  1.3   0.48 /  1.9   0.18 / 0.75
    one convolution per image     1.56 /  24.5    0.56 /  2.7   0.58 /  4.0   0.30 / 1.7
    B*C groups in NCHW            27.8 /  91.0    2.55 /  7.1   1.71 /  4.2   0.48 / 1.3
    nine shifted products         29.2 / 160      6.01 / 30     5.09 / 24     1.16 / 5.5
    bfloat16
    folded batch, channels-last   0.77 /   5.1    0.31 /  1.5   0.34 /  1.8   0.14 / 0.76
    one convolution per image     1.06 /  16.8    0.41 /  2.3   0.44 /  3.5   0.25 / 1.5
    B*C groups in NCHW            13.8 /  42.6    2.12 /  5.8   1.63 /  4.1   0.36 / 1.1
    nine shifted products         43.5 / 158      10.3 / 33     8.55 / 31     2.16 / 7.6

The order is the same everywhere, so there is one form. Images that share a kernel need no folding.

``torch.compile`` does not look into the operators. Traced step by step, the backward pass of the convolution
is compiled for a layout of the gradient that oneDNN need not return, and its forward pass anew for maps of
less than 20 480 elements. Where the sides of the map are computed, Inductor on a CPU compiles
``adaptive_avg_pool2d`` for the cells of the first size and uses them for larger maps too, whose means are
then wrong.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .._shared.dispatch import at_least_float32, keeps_operators, product_dtype
from .._shared.operators import operator
from . import reference


def depthwise_conv(x: Tensor, kernel: Tensor, bias: Tensor, residual: bool) -> Tensor:
    """``conv(x)``, or ``x + conv(x)`` in one pass where the sum of 1 and a tap has no fewer digits than x."""
    dtype = product_dtype(x)
    in_kernel = residual and dtype in (torch.float32, torch.float64)
    if in_kernel:
        kernel = kernel.to(dtype)
        kernel = kernel + _identity(kernel)
    run = eager_conv if keeps_operators() else _convolve
    out = run(x.to(dtype), kernel.to(dtype), bias.to(dtype))
    return x + out if residual and not in_kernel else out


def depthwise_conv_norm(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    eps: float,
    residual: bool,
) -> tuple[Tensor, Tensor]:
    out = depthwise_conv(x, kernel, bias, residual)
    return out, reference.layer_norm(out, norm_weight, norm_bias, eps)


@at_least_float32
def pool_grid(x: Tensor, size: int) -> Tensor:
    return pool_grid_whole(x, size) if keeps_operators() else _means(x, size)


@at_least_float32
def update_from_grid(
    grid: Tensor, hidden_weight: Tensor, hidden_bias: Tensor, out_weight: Tensor
) -> Tensor:
    """The two 1x1 convolutions of `adaptive_update` as products; ``(B, k, k, C) -> (B, C, k, k)``."""
    hidden = F.gelu(F.linear(grid, hidden_weight.flatten(1), hidden_bias))
    return F.linear(hidden, out_weight.flatten(1)).permute(0, 3, 1, 2)


def _identity(kernel: Tensor) -> Tensor:
    """The kernel that leaves a map as it is, ``(k, k)``."""
    size = kernel.shape[-1]
    position = torch.arange(size, device=kernel.device)
    row = (position == size // 2).to(kernel.dtype)
    return row[:, None] * row


def _convolve(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """One convolution of ``B * C`` channels; of ``C`` channels where the images share a kernel."""
    images, channels = kernel.shape[:2]
    out = F.conv2d(
        _folded(x, images),
        kernel.flatten(0, 1),  # (images * C, 1, k, k)
        bias.repeat(images),
        padding=[kernel.shape[-1] // 2] * 2,  # a single one cannot be traced by torch 2.1
        groups=images * channels,
    )
    return _unfolded(out, images)


def _folded(x: Tensor, images: int) -> Tensor:
    """``(B, H, W, C) -> (B / images, images * C, H, W)``, channels-last in memory; ``images`` is B or 1."""
    if images > 1:
        x = x.permute(1, 2, 0, 3).flatten(2).unsqueeze(0)  # (1, H, W, B * C)
    return x.permute(0, 3, 1, 2)


def _unfolded(x: Tensor, images: int) -> Tensor:
    """The way back, ``(B / images, images * C, H, W) -> (B, H, W, C)``."""
    x = x.permute(0, 2, 3, 1)
    if images > 1:
        x = x.squeeze(0).unflatten(2, (images, -1)).permute(2, 0, 1, 3)
    return x


def _means(x: Tensor, size: int) -> Tensor:
    return F.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), size).permute(0, 2, 3, 1)


def _conv_gradient(needed, arguments, kept, grad):
    x, kernel, _ = arguments
    return eager_conv_backward(grad, x, kernel)


@operator(
    'eager_conv(Tensor x, Tensor kernel, Tensor bias) -> Tensor',
    lambda x, kernel, bias: x.new_empty(x.shape),
    _conv_gradient,
    reference.depthwise_conv,
)
def eager_conv(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    return _convolve(x, kernel, bias).contiguous()


@operator(
    'eager_conv_backward(Tensor grad, Tensor x, Tensor kernel) -> (Tensor, Tensor, Tensor)',
    lambda grad, x, kernel: tuple(
        x.new_empty(shape) for shape in (x.shape, kernel.shape, x.shape[-1:])
    ),
)
def eager_conv_backward(grad: Tensor, x: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    channels, images, size = x.shape[3], kernel.shape[0], kernel.shape[-1]
    x_grad, kernel_grad, bias_grad = torch.ops.aten.convolution_backward(
        _folded(grad, images),
        _folded(x, images),
        kernel.flatten(0, 1),
        [images * channels],
        [1, 1],
        [size // 2, size // 2],
        [1, 1],
        False,
        [0, 0],
        images * channels,
        [True, True, True],
    )
    x_grad = _unfolded(x_grad, images).contiguous()
    return x_grad, kernel_grad.reshape(kernel.shape), bias_grad.view(images, channels).sum(0)


def _grid_gradient(needed, arguments, kept, grad):
    x, _ = arguments
    return pool_grid_whole_backward(grad, *x.shape[1:3]), None


@operator(
    'pool_grid_whole(Tensor x, SymInt size) -> Tensor',
    lambda x, size: x.new_empty((x.shape[0], size, size, x.shape[3])),
    _grid_gradient,
    _means,
)
def pool_grid_whole(x: Tensor, size: int) -> Tensor:
    return _means(x, size).contiguous()


def _empty_map(grad: Tensor, height: int, width: int) -> Tensor:
    return grad.new_empty((grad.shape[0], height, width, grad.shape[3]))


@operator(
    'pool_grid_whole_backward(Tensor grad, SymInt height, SymInt width) -> Tensor', _empty_map
)
def pool_grid_whole_backward(grad: Tensor, height: int, width: int) -> Tensor:
    x = _empty_map(grad, height, width).permute(0, 3, 1, 2)  # only its shape counts
    grad = grad.permute(0, 3, 1, 2)
    return torch.ops.aten._adaptive_avg_pool2d_backward(grad, x).permute(0, 2, 3, 1).contiguous()
