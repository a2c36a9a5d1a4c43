"""Convolution and grid of means as operators that ``torch.compile`` does not look into.

Traced step by step, the backward pass of the convolution is compiled for a layout of the gradient that oneDNN
need not return, and its forward pass anew for maps of less than 20 480 elements. Where the sides of the map
are computed, Inductor on a CPU compiles ``adaptive_avg_pool2d`` for the cells of the first size and uses them
for larger maps too, whose means are then wrong.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..operators import operator
from . import eager, reference


def _fake(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty(x.shape)


def _gradient(needed, arguments, kept, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x, kernel, _ = arguments
    return eager_conv_backward(grad, x, kernel)


@operator(
    'eager_conv(Tensor x, Tensor kernel, Tensor bias) -> Tensor',
    _fake,
    _gradient,
    reference.depthwise_conv,
)
def eager_conv(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    return eager.convolve(x, kernel, bias).contiguous()


def _fake_backward(grad: Tensor, x: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), kernel.new_empty(kernel.shape), x.new_empty(x.shape[-1:])


@operator(
    'eager_conv_backward(Tensor grad, Tensor x, Tensor kernel) -> (Tensor, Tensor, Tensor)',
    _fake_backward,
)
def eager_conv_backward(grad: Tensor, x: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    batch, height, width, channels = x.shape
    images, size = kernel.shape[0], kernel.shape[-1]
    groups = images * channels
    x_grad, kernel_grad, bias_grad = torch.ops.aten.convolution_backward(
        eager.folded(grad, images),
        eager.folded(x, images),
        kernel.flatten(0, 1),
        [groups],
        [1, 1],
        [size // 2, size // 2],
        [1, 1],
        False,
        [0, 0],
        groups,
        [True, True, True],
    )
    x_grad = eager.unfolded(x_grad, images).contiguous()
    return x_grad, kernel_grad.reshape(kernel.shape), bias_grad.view(images, channels).sum(0)


def _fake_grid(x: Tensor, size: int) -> Tensor:
    return x.new_empty((x.shape[0], size, size, x.shape[3]))


def _grid_gradient(needed, arguments, kept, grad: Tensor):
    x, _ = arguments
    return pool_grid_whole_backward(grad, *x.shape[1:3]), None


@operator(
    'pool_grid_whole(Tensor x, SymInt size) -> Tensor',
    _fake_grid,
    _grid_gradient,
    reference.pool_grid,
)
def pool_grid_whole(x: Tensor, size: int) -> Tensor:
    return reference.pool_grid(x, size).contiguous()


def _fake_grid_backward(grad: Tensor, height: int, width: int) -> Tensor:
    return grad.new_empty((grad.shape[0], height, width, grad.shape[3]))


@operator(
    'pool_grid_whole_backward(Tensor grad, SymInt height, SymInt width) -> Tensor',
    _fake_grid_backward,
)
def pool_grid_whole_backward(grad: Tensor, height: int, width: int) -> Tensor:
    x = _fake_grid_backward(grad, height, width)  # its shape alone counts
    grad, x = grad.permute(0, 3, 1, 2), x.permute(0, 3, 1, 2)
    return torch.ops.aten._adaptive_avg_pool2d_backward(grad, x).permute(0, 2, 3, 1).contiguous()
