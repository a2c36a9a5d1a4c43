"""The residual MLP of many tokens at once, keeping the hidden layer before GELU for the backward pass.

The fastest way to train on a CPU if the hidden layer is wide: equally wide tensors that are not kept go to
reused memory, and each bias is added as its product is written.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._shared.second_order import differentiable_gradients, is_differentiated
from .. import reference
from .chunked import row_scale, rows, scratch, split_rows

aten = torch.ops.aten


class WholeMLP(torch.autograd.Function):
    """``x + scale * (GELU(normed W1 + b1) W2ᵀ + b2)``; see `weightformer_mm.ops.residual_mlp`."""

    @staticmethod
    def forward(ctx, x, normed, weight1, bias1, weight2, bias2, scale, length):
        ctx.length = length  # tokens that run together
        residual, tokens = rows(x), rows(normed)
        factors = row_scale(scale, x, x.dtype)
        out, hidden = torch.empty_like(residual), []
        for image, piece in split_rows(x, weight1.shape[0] > 1, length):
            before = _linear(tokens[piece], weight1[image].T, bias1)
            hidden.append(before)
            (activated,) = scratch(before, before.shape, 1)
            aten.gelu.out(before, out=activated)
            branch = _linear(activated, weight2, bias2)
            if factors is not None:
                branch *= factors[piece]
            torch.add(residual[piece], branch, out=out[piece])
        ctx.save_for_backward(normed, weight1, bias1, weight2, bias2, scale, *hidden)
        return out.view(x.shape)

    @staticmethod
    def backward(ctx, grad):
        saved = ctx.saved_tensors  # torch 2.1's checkpoints allow this only once
        arguments, hidden = saved[:6], saved[6:]
        needed = ctx.needs_input_grad[1:7]
        if is_differentiated():
            grads = differentiable_gradients(reference.branch, arguments, (grad,), needed)
        else:
            grads = _gradients(arguments, grad, hidden, needed, ctx.length)
        return grad, *grads, None


def _gradients(arguments, grad, hidden, needed, length) -> tuple[Tensor | None, ...]:
    """Gradients of the arguments of `reference.branch`."""
    normed, weight1, bias1, weight2, _, scale = arguments
    branch, tokens, factors = rows(grad), rows(normed), row_scale(scale, grad, grad.dtype)
    if factors is not None:
        branch = branch * factors
    normed_grad = torch.empty_like(tokens)
    # with the strides of the weight, so that a static one, which arrives transposed, is not copied
    weight1_grad, bias1_grad, weight2_grad = (
        torch.zeros_like(value) if needs else None
        for value, needs in zip((weight1, bias1, weight2), needed[1:4])
    )
    pieces = split_rows(normed, weight1.shape[0] > 1, length)
    for (image, piece), before in zip(pieces, hidden):
        # not in place, which would make GELU's derivative take a tenth longer
        after, before_grad = scratch(before, before.shape, 2)
        if weight2_grad is not None:
            aten.gelu.out(before, out=after)
            weight2_grad.addmm_(branch[piece].T, after)
        torch.mm(branch[piece], weight2, out=after)
        aten.gelu_backward.grad_input(after, before, grad_input=before_grad)
        if bias1_grad is not None:
            bias1_grad += before_grad.sum(0)
        if weight1_grad is not None:
            weight1_grad[image].addmm_(tokens[piece].T, before_grad)
        torch.mm(before_grad, weight1[image].T, out=normed_grad[piece])
    normed_grad = normed_grad.view(normed.shape)
    bias2_grad = branch.sum(0) if needed[4] else None
    return normed_grad, weight1_grad, bias1_grad, weight2_grad, bias2_grad, None


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x weightᵀ + bias`` for tokens ``(N, Cin)``.

    A convolution adds the bias as it writes, while a linear layer writes the bias first: on two CPU cores in
    float32, 4.0 instead of 4.4 ms for 4096 tokens from 192 to 768 channels. But a convolution copies a
    transposed weight, as predicted ones are: the MLP of 1024 tokens with 512 channels then takes 50 instead
    of 48 ms.
    """
    if not weight.is_contiguous():
        return torch.addmm(bias, x, weight.T)  # (N, Cout)
    kernel = weight[:, :, None, None]  # (Cout, Cin, 1, 1)
    image = x[None, None].permute(0, 3, 1, 2)  # (1, Cin, 1, N), channels last
    return F.conv2d(image, kernel, bias).permute(0, 2, 3, 1).flatten(0, 2)  # (N, Cout)
