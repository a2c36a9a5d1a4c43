"""The Triton convolution as differentiable operators of PyTorch: what is saved, and which kernels run."""

from __future__ import annotations

import torch
from torch import Tensor

from ..operators import operator
from . import reference

# Triton is imported with the kernels, when one of them first runs.

# What `conv_norm` takes: with more channels, a tile would have too few columns
NORM_KERNEL_SIZE, NORM_CHANNELS = 3, 512


def _like(x: Tensor) -> Tensor:
    return x.new_empty(x.shape)


@operator(
    'depthwise_conv_input_grad(Tensor grad, Tensor kernel, bool residual) -> Tensor',
    fake=lambda grad, kernel, residual: _like(grad),
)
def input_grad(grad: Tensor, kernel: Tensor, residual: bool) -> Tensor:
    from . import kernels

    return kernels.conv(grad, kernel, None, residual, flip=True)


def _fake_kernel_grad(x, grad, images, size):
    channels = x.shape[3]
    taps = x.new_empty((images, channels, 1, size, size), dtype=torch.float32)
    return taps, x.new_empty((channels,), dtype=torch.float32)


@operator(
    'depthwise_conv_kernel_grad(Tensor x, Tensor grad, SymInt images, SymInt size) -> (Tensor, Tensor)',
    fake=_fake_kernel_grad,
)
def kernel_grad(x: Tensor, grad: Tensor, images: int, size: int) -> tuple[Tensor, Tensor]:
    from . import kernels

    return kernels.kernel_grad(x, grad, images, size)


def _conv_gradient(needed, arguments, kept, grad):
    x, kernel, bias, residual = arguments
    x_grad = taps_grad = bias_grad = None
    if needed[0]:
        x_grad = input_grad(grad, kernel, residual)
    if any(needed[1:3]):
        taps_grad, bias_grad = kernel_grad(x, grad, kernel.shape[0], kernel.shape[-1])
        taps_grad, bias_grad = taps_grad.to(kernel.dtype), bias_grad.to(bias.dtype)
    return x_grad, taps_grad, bias_grad, None


@operator(
    'depthwise_conv(Tensor x, Tensor kernel, Tensor bias, bool residual) -> Tensor',
    fake=lambda x, kernel, bias, residual: _like(x),
    gradient=_conv_gradient,
    reference=reference.depthwise_conv,
)
def conv(x: Tensor, kernel: Tensor, bias: Tensor, residual: bool) -> Tensor:
    from . import kernels

    return kernels.conv(x, kernel, bias, residual)


def _fake_norm_grad(grad_normed, grad_out, out, mean, rstd, weight):
    sums = [out.new_empty(weight.shape, dtype=torch.float32) for _ in range(2)]
    return (_like(out), *sums)


@operator(
    'depthwise_conv_norm_grad(Tensor grad_normed, Tensor? grad_out, Tensor out, Tensor mean, Tensor rstd, '
    'Tensor weight) -> (Tensor, Tensor, Tensor)',
    fake=_fake_norm_grad,
)
def norm_grad(
    grad_normed: Tensor,
    grad_out: Tensor | None,
    out: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    from . import kernels

    return kernels.norm_grad(grad_normed, grad_out, out, mean, rstd, weight)


def _fake_conv_norm(x, kernel, bias, norm_weight, norm_bias, eps, residual):
    statistics = [x.new_empty(x.shape[:3], dtype=torch.float32) for _ in range(2)]
    return (_like(x), _like(x), *statistics)


def _conv_norm_gradient(needed, arguments, kept, grad_out, grad_normed, *_):
    x, kernel, bias, norm_weight, norm_bias, _, residual = arguments
    weight_grad = shift_grad = None
    if grad_normed is not None:
        grad_out, weight_grad, shift_grad = norm_grad(grad_normed, grad_out, *kept, norm_weight)
        weight_grad = weight_grad.to(norm_weight.dtype)
        shift_grad = shift_grad.to(norm_bias.dtype)
    *grads, _ = _conv_gradient(needed, (x, kernel, bias, residual), (), grad_out)
    return (*grads, weight_grad, shift_grad, None, None)


def _reference_conv_norm(x, kernel, bias, norm_weight, norm_bias, eps, residual):
    out = reference.depthwise_conv(x, kernel, bias, residual)
    return out, reference.layer_norm(out, norm_weight, norm_bias, eps)


@operator(
    'depthwise_conv_norm(Tensor x, Tensor kernel, Tensor bias, Tensor norm_weight, Tensor norm_bias, '
    'float eps, bool residual) -> (Tensor, Tensor, Tensor, Tensor)',
    fake=_fake_conv_norm,
    gradient=_conv_norm_gradient,
    reference=_reference_conv_norm,
    keeps=(0, 2, 3),
)
def conv_norm(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    eps: float,
    residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from . import kernels

    return kernels.conv_norm(x, kernel, bias, norm_weight, norm_bias, eps, residual)
