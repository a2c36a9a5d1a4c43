"""The MLP in half precision with the fewest passes over memory: products that also do what comes after them.

Without gradients, the hidden layer is never written where one kernel computes the MLP. With them it is
written before and after GELU, kept before GELU, and computed again. Matrices come in any layout and one per
image or for all; their gradients have the same layout.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .._shared.half_copies import half
from .._shared.launching import cdiv, contiguous, launch, next_power_of_two
from .._shared.operators import operator
from ..linear.triton import FEW, hidden_grad, input_grad, linear, weight_grad, weight_grads
from ..predicted_weight import bilateral
from . import reference

# Channels of a program that computes a whole MLP, for 128 tokens; and for 64 on Hopper and Blackwell, whose
# matrix instructions read from shared memory what would fill the registers of others
MOST_NARROW, MOST_WHOLE = 128, 320


def mlp(
    x: Tensor,
    normed: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    scale: Tensor | None,
) -> Tensor:
    """``x + scale * (GELU(normed W1 + b1) W2ᵀ + b2)`` in the type of ``normed``, which is half precision."""
    normed = normed.contiguous()
    halves = (half(weight, normed.dtype) for weight in (weight1, weight2))
    arguments = (x, normed, weight1, bias1, weight2, bias2, scale, *halves)
    return residual_mlp(*arguments, torch.is_grad_enabled())[0]


def bilateral_mlp(
    x: Tensor,
    normed: Tensor,
    prediction: tuple[Tensor, ...],
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    scale: Tensor | None,
) -> Tensor:
    """The same with the first matrix that `bilateral.bilateral_weight` predicts from ``normed``."""
    normed, half2 = normed.contiguous(), half(weight2, normed.dtype)
    arguments = (x, normed, *prediction, bias1, weight2, bias2, scale, half2)
    return predicted_mlp(*arguments, torch.is_grad_enabled())[0]


def _run(x, normed, half1, bias1, half2, bias2, scale, learns) -> tuple[Tensor, Tensor]:
    """The result, and the hidden layer before GELU; without ``learns`` that is empty."""
    out, hidden = _empty(x, normed, half1, learns)
    x = x.contiguous()
    if not learns and _is_whole(x):
        return _run_whole(x, normed, half1, bias1, half2, bias2, scale, out), hidden
    active = normed.new_empty((*normed.shape[:3], half1.shape[2]))
    linear(normed, half1, active, bias=bias1, gelu=True, second=hidden if learns else None)
    return linear(active, half2.T[None], out, bias=bias2, scale=scale, residual=x), hidden


def _is_whole(x: Tensor) -> bool:
    """Whether one kernel computes the MLP: without it, a small map has more programs."""
    channels, programs = x.shape[3], cdiv(x.shape[:3].numel(), 64)
    if channels <= MOST_NARROW:
        return True
    if channels > MOST_WHOLE or programs < FEW // 2:
        return False
    # interpreted, or compiled for another machine or counted
    if not x.is_cuda or not torch.cuda.is_available():
        return True
    hip, (major, _) = torch.version.hip, torch.cuda.get_device_capability(x.device)
    return hip is None and major in (9, 10)


def _run_whole(x, normed, weight1, bias1, weight2, bias2, scale, out) -> Tensor:
    """Write ``out`` and return it, without writing the hidden layer."""
    from . import kernels

    images, channels, hidden = weight1.shape
    batch, tokens = x.shape[0], x.shape[1:-1].numel()
    if images == 1 and scale is None:
        batch, tokens = 1, batch * tokens
    narrow = channels <= MOST_NARROW
    block_t, block_d = (128, 64) if narrow else (64, 32)
    # of two tiles, a power of two each, that hold the channels with the fewest idle ones
    block_c = max(next_power_of_two(channels), 16) if narrow else 1 << channels.bit_length() - 1
    rest = channels - block_c
    launch(
        kernels.mlp_kernel,
        (cdiv(tokens, block_t), batch),
        *(x, normed, weight1, *map(contiguous, (bias1, weight2, bias2, scale)), out, tokens),
        IMAGE_STRIDE=weight1.stride(0) if images > 1 else 0,
        C=channels,
        D=hidden,
        STRIDE_C=weight1.stride(1),
        STRIDE_D=weight1.stride(2),
        EXACT=False,
        BLOCK_T=block_t,
        BLOCK_C=block_c,
        BLOCK_R=max(next_power_of_two(rest), 16) if rest > 0 else 0,
        BLOCK_D=block_d,
        num_warps=8,
        num_stages=2,
    )
    return out


def _gradients(grad, normed, weight1, half1, half2, scale, hidden) -> tuple[Tensor, ...]:
    """Of what is added to ``x``: for ``normed``, both matrices and both biases; the last four float32."""
    grad = grad if scale is None else grad * scale.to(grad.dtype)[:, None, None, None]
    grad = grad.to(normed.dtype)
    grad_hidden, active = hidden_grad(grad, half2, hidden)
    grad_normed = input_grad(grad_hidden, half1)
    if len(weight1) == 1:
        return grad_normed, *weight_grads(normed, grad_hidden, grad, active, weight1)
    first, bias1 = weight_grad(normed, grad_hidden, weight1)
    # the transposed product, whose right side is the gradient
    second, bias2 = weight_grad(active, grad, half2.T[None])
    return grad_normed, first, bias1, second[0].T, bias2


def _empty(x, normed, weight1, learns) -> tuple[Tensor, Tensor]:
    hidden = (*x.shape[:3], weight1.shape[2]) if learns else (0,)
    return x.new_empty(x.shape), normed.new_empty(hidden)


def _outputs(x, normed, weight1, *others) -> tuple[Tensor, Tensor]:
    return _empty(x, normed, weight1, learns=others[-1])


def _reference(x, normed, weight1, bias1, weight2, bias2, scale, half1, half2, learns) -> Tensor:
    tensors = (value.float() for value in (normed, weight1, bias1, weight2, bias2))
    return x + reference.branch(*(*tensors, scale)).to(x.dtype)


def _gradient(needed, arguments, kept, grad, _):
    _, normed, weight1, bias1, weight2, bias2, scale, half1, half2, _ = arguments
    grad = grad.contiguous()
    found = _gradients(grad, normed, weight1, half1, half2, scale, *kept)
    grad_normed, grad_weight1, grad_bias1, grad_weight2, grad_bias2 = found
    return (
        *(grad, grad_normed, grad_weight1.to(weight1.dtype), grad_bias1.to(bias1.dtype)),
        *(grad_weight2.to(weight2.dtype), grad_bias2.to(bias2.dtype)),
        *[None] * 4,
    )


@operator(
    'residual_mlp(Tensor x, Tensor normed, Tensor weight1, Tensor bias1, Tensor weight2, Tensor bias2, '
    'Tensor? scale, Tensor half1, Tensor half2, bool learns) -> (Tensor, Tensor)',
    _outputs,
    _gradient,
    _reference,
    keeps=(1,),
)
def residual_mlp(
    x, normed, weight1, bias1, weight2, bias2, scale, half1, half2, learns
) -> tuple[Tensor, Tensor]:
    return _run(x, normed, half1, bias1, half2, bias2, scale, learns)


def _predicted_outputs(
    x, normed, weight, reduce_weight, reduce_bias, expand_in, expand_out, bias1, weight2, *others
) -> tuple[Tensor, ...]:
    learns, prediction = others[-1], (weight, reduce_weight, reduce_bias, expand_in, expand_out)
    first, *kept = bilateral.outputs(normed, *prediction, normed.dtype, learns)
    return *_empty(x, normed, first, learns), first, *kept


def _predicted_reference(x, normed, *arguments) -> Tensor:
    *prediction, bias1, weight2, bias2, scale, _, _ = arguments
    weight1 = bilateral.reference_weight(normed, *prediction, torch.float32)
    parameters = (weight1, bias1.float(), weight2.float(), bias2.float())
    return x + reference.branch(normed.float(), *parameters, scale).to(x.dtype)


def _predicted_gradient(needed, arguments, kept, grad, *_):
    x, normed, *prediction, bias1, weight2, bias2, scale, half2, _ = arguments
    hidden, weight1, *kept = kept
    grad = grad.contiguous()
    found = _gradients(grad, normed, weight1, weight1, half2, scale, hidden)
    grad_normed, grad_weight1, grad_bias1, grad_weight2, grad_bias2 = found
    predicted = bilateral.gradients(normed, *prediction, kept, grad_weight1, grad_normed)
    return (
        *(grad, *predicted, grad_bias1.to(bias1.dtype)),
        *(grad_weight2.to(weight2.dtype), grad_bias2.to(bias2.dtype)),
        *[None] * 3,
    )


@operator(
    'bilateral_mlp(Tensor x, Tensor normed, Tensor weight, Tensor reduce_weight, Tensor reduce_bias, '
    'Tensor expand_in, Tensor expand_out, Tensor bias1, Tensor weight2, Tensor bias2, Tensor? scale, '
    'Tensor half2, bool learns) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)',
    _predicted_outputs,
    _predicted_gradient,
    _predicted_reference,
    keeps=(1, 2, 3, 4, 5, 6),
)
def predicted_mlp(x, normed, *arguments) -> tuple[Tensor, ...]:
    """The result; the hidden layer before GELU; the predicted matrix, and what its gradient reads."""
    *prediction, bias1, _, bias2, scale, half2, learns = arguments
    weight1, *kept = bilateral.run(*(normed, *prediction, normed.dtype, learns))
    out, hidden = _run(x, normed, weight1, bias1, half2, bias2, scale, learns)
    return out, hidden, weight1, *kept
