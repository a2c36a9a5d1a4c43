"""The folded convolution as one operator, which ``torch.compile`` does not look into.

Traced step by step, its backward pass is compiled for a layout of the gradient that oneDNN need not return.
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
    return folded_conv_backward(grad, *ctx.saved_tensors)


@operator(
    'folded_conv(Tensor x, Tensor kernel, Tensor bias) -> Tensor', _fake, _save, _differentiate
)
def folded_conv(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    return eager.folded_conv(x, kernel, bias).contiguous()


def _fake_backward(grad: Tensor, x: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), kernel.new_empty(kernel.shape), x.new_empty(x.shape[-1:])


@operator(
    'folded_conv_backward(Tensor grad, Tensor x, Tensor kernel) -> (Tensor, Tensor, Tensor)',
    _fake_backward,
)
def folded_conv_backward(grad: Tensor, x: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    batch, height, width, channels = x.shape
    groups, size = batch * channels, kernel.shape[-1]
    x_grad, kernel_grad, bias_grad = torch.ops.aten.convolution_backward(
        eager.folded(grad),
        eager.folded(x),
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
    x_grad = x_grad.permute(0, 2, 3, 1).reshape(height, width, batch, channels)
    x_grad = x_grad.permute(2, 0, 1, 3).contiguous()  # (B, H, W, C)
    return x_grad, kernel_grad.reshape(kernel.shape), bias_grad.view(batch, channels).sum(0)
