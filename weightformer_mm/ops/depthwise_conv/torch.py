"""The convolution and its prediction in PyTorch: the fastest eager form, and operators for ``torch.compile``.

The batch is folded into the channels: the fastest of four forms for every size and type measured, see
docs/benchmarks/where_the_time_goes.md. Images that share a kernel need no folding.

``torch.compile`` does not look into the operators. If it traced them, it would compile the convolution's
backward pass for a gradient layout that oneDNN need not return, and its forward pass again for maps of less
than 20 480 elements. If the sides of the map are computed, Inductor on a CPU compiles ``adaptive_avg_pool2d``
for the cells of the first size and also uses them for larger maps, whose means are then wrong.

An exported file would have the same wrong cells, and one number of groups for every batch. It gets the cells
as masks, and the convolution as a sum over taps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .._shared.dispatch import at_least_float32, form_of, product_dtype
from .._shared.operators import operator
from . import reference


def depthwise_conv(
    x: Tensor, kernel: Tensor, bias: Tensor, residual: bool, dilation: int = 1
) -> Tensor:
    """``conv(x)``, or ``x + conv(x)``: in one pass if the sum of 1 and a tap has no fewer digits than x."""
    dtype = product_dtype(x)
    in_kernel = residual and dtype in (torch.float32, torch.float64)
    if in_kernel:
        kernel = kernel.to(dtype)
        kernel = kernel + _identity(kernel)
    run = form_of(_convolve, eager_conv, _sum_of_taps)
    out = run(x.to(dtype), kernel.to(dtype), bias.to(dtype), dilation)
    return x + out if residual and not in_kernel else out


def depthwise_conv_norm(
    x: Tensor, kernel: Tensor, bias: Tensor, norm: tuple[Tensor, Tensor, float], residual: bool
) -> tuple[Tensor, Tensor]:
    """``norm`` is weight, bias and epsilon."""
    out = depthwise_conv(x, kernel, bias, residual)
    return out, reference.layer_norm(out, *norm)


@at_least_float32
def pool_grid(x: Tensor, size: int) -> Tensor:
    return form_of(_means, pool_grid_whole, _masked_means)(x, size)


@at_least_float32
def update_from_grid(
    grid: Tensor, hidden_weight: Tensor, hidden_bias: Tensor, out_weight: Tensor
) -> Tensor:
    """The two 1x1 convolutions of `adaptive_update` as products; ``(B, k, k, C) -> (B, C, k, k)``."""
    hidden = F.gelu(F.linear(grid, hidden_weight.flatten(1), hidden_bias))
    return F.linear(hidden, out_weight.flatten(1)).permute(0, 3, 1, 2)


def _identity(kernel: Tensor) -> Tensor:
    """The kernel that leaves a map unchanged, ``(k, k)``."""
    size = kernel.shape[-1]
    position = torch.arange(size, device=kernel.device)
    row = (position == size // 2).to(kernel.dtype)
    return row[:, None] * row


def _sum_of_taps(x: Tensor, kernel: Tensor, bias: Tensor, dilation: int) -> Tensor:
    return reference.depthwise_conv(x, kernel, bias, dilation=dilation)


def _convolve(x: Tensor, kernel: Tensor, bias: Tensor, dilation: int) -> Tensor:
    """One convolution of ``B * C`` channels, or of ``C`` channels if the images share a kernel."""
    images, channels = kernel.shape[:2]
    out = F.conv2d(
        _folded(x, images),
        kernel.flatten(0, 1),  # (images * C, 1, k, k)
        bias.repeat(images),
        # a single number cannot be traced by torch 2.1
        padding=[kernel.shape[-1] // 2 * dilation] * 2,
        dilation=[dilation] * 2,
        groups=images * channels,
    )
    return _unfolded(out, images)


def _folded(x: Tensor, images: int) -> Tensor:
    """``(B, H, W, C) -> (B / images, images * C, H, W)``, channels-last in memory; ``images`` is B or 1."""
    if images > 1:
        x = x.permute(1, 2, 0, 3).flatten(2).unsqueeze(0)  # (1, H, W, B * C)
    return x.permute(0, 3, 1, 2)


def _unfolded(x: Tensor, images: int) -> Tensor:
    """The inverse of `_folded`, ``(B / images, images * C, H, W) -> (B, H, W, C)``."""
    x = x.permute(0, 2, 3, 1)
    if images > 1:
        x = x.squeeze(0).unflatten(2, (images, -1)).permute(2, 0, 1, 3)
    return x


def _means(x: Tensor, size: int) -> Tensor:
    return F.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), size).permute(0, 2, 3, 1)


def _masked_means(x: Tensor, size: int) -> Tensor:
    """The means as two matrix products with masks of the cells, which follow from the size at run time."""
    columns = x.permute(0, 3, 1, 2) @ _cells(x, 2, size)  # (B, C, H, size)
    return (columns.transpose(2, 3) @ _cells(x, 1, size)).permute(0, 3, 2, 1)


def _cells(x: Tensor, axis: int, size: int) -> Tensor:
    """The share of each pixel of an axis in the mean of each cell, ``(length, size)``."""
    length = x.shape[axis]
    pixel = torch.arange(length, device=x.device)[:, None] * size
    cell = torch.arange(size, device=x.device) * length  # both in units of 1 / (size * length)
    inside = ((pixel + size > cell) & (pixel < cell + length)).to(x.dtype)
    return inside / inside.sum(0)


def _conv_gradient(needed, arguments, kept, grad):
    x, kernel, _, dilation = arguments
    return *eager_conv_backward(grad, x, kernel, dilation), None


@operator(
    'eager_conv(Tensor x, Tensor kernel, Tensor bias, int dilation) -> Tensor',
    lambda x, kernel, bias, dilation: x.new_empty(x.shape),
    _conv_gradient,
    _sum_of_taps,
)
def eager_conv(x: Tensor, kernel: Tensor, bias: Tensor, dilation: int) -> Tensor:
    return _convolve(x, kernel, bias, dilation).contiguous()


@operator(
    'eager_conv_backward(Tensor grad, Tensor x, Tensor kernel, int dilation) -> (Tensor, Tensor, Tensor)',
    lambda grad, x, kernel, dilation: tuple(
        x.new_empty(shape) for shape in (x.shape, kernel.shape, x.shape[-1:])
    ),
)
def eager_conv_backward(
    grad: Tensor, x: Tensor, kernel: Tensor, dilation: int
) -> tuple[Tensor, Tensor, Tensor]:
    channels, images, size = x.shape[3], kernel.shape[0], kernel.shape[-1]
    geometry = dict(stride=[1, 1], padding=[size // 2 * dilation] * 2, dilation=[dilation] * 2)
    geometry.update(output_padding=[0, 0])
    x_grad, kernel_grad, bias_grad = torch.ops.aten.convolution_backward(
        *(_folded(grad, images), _folded(x, images), kernel.flatten(0, 1), [images * channels]),
        **dict(geometry, transposed=False, groups=images * channels, output_mask=[True] * 3),
    )
    x_grad = _unfolded(x_grad, images).contiguous()
    return x_grad, kernel_grad.reshape(kernel.shape), bias_grad.view(images, channels).sum(0)


def _grid_gradient(needed, arguments, kept, grad):
    x, _ = arguments
    return pool_grid_whole_backward(grad, *x.shape[1:3]), None


def empty_grid(x: Tensor, size: int, dtype: torch.dtype | None = None) -> Tensor:
    return x.new_empty((x.shape[0], size, size, x.shape[3]), dtype=dtype)


@operator('pool_grid_whole(Tensor x, SymInt size) -> Tensor', empty_grid, _grid_gradient, _means)
def pool_grid_whole(x: Tensor, size: int) -> Tensor:
    return _means(x, size).contiguous()


def _empty_map(grad: Tensor, height: int, width: int) -> Tensor:
    return grad.new_empty((grad.shape[0], height, width, grad.shape[3]))


@operator(
    'pool_grid_whole_backward(Tensor grad, SymInt height, SymInt width) -> Tensor', _empty_map
)
def pool_grid_whole_backward(grad: Tensor, height: int, width: int) -> Tensor:
    x = _empty_map(grad, height, width).permute(0, 3, 1, 2)  # only its shape matters
    grad = grad.permute(0, 3, 1, 2)
    return torch.ops.aten._adaptive_avg_pool2d_backward(grad, x).permute(0, 2, 3, 1).contiguous()
