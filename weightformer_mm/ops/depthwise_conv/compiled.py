"""The convolution as one operator, which ``torch.compile`` does not look into.

Traced step by step, the backward pass is compiled for a layout of the gradient that oneDNN need not return,
and the forward pass anew for maps of less than 20 480 elements.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..operators import operator
from . import eager


def _fake(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty(x.shape)


def _save(ctx, inputs, output) -> None:
    x, kernel, _ = inputs
    ctx.save_for_backward(x, kernel)


def _differentiate(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return eager_conv_backward(grad, *ctx.saved_tensors)


@operator(
    'eager_conv(Tensor x, Tensor kernel, Tensor bias) -> Tensor', _fake, _save, _differentiate
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
