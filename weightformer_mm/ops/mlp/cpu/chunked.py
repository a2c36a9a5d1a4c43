"""The residual MLP a few tokens at a time, keeping as little as possible for the backward pass.

The hidden layer is four times as wide as the map. If all tokens run together, it is the largest tensor of the
network, twice (before and after GELU). A piece of it stays in the cache, and the next one replaces it; the
backward pass recomputes it, or takes the part before GELU if that was kept.

A GPU also runs this form, in a single piece, if a block is checkpointed.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..._shared.dispatch import without_autocast
from ..._shared.second_order import differentiable_gradients, is_differentiated
from .. import reference

aten = torch.ops.aten
_held = threading.local()  # each thread's reused memory, by data type


@dataclass(frozen=True)
class Plan:
    """How the MLP runs."""

    tokens: int | None  # how many run together; None for all
    keep_hidden: bool  # keep the hidden layer before GELU for the backward pass
    dtype: torch.dtype  # of the matrix products
    eps: float  # of the LayerNorm


@dataclass(frozen=True)
class Parameters:
    """What the MLP has learned for all images, and what is predicted or drawn for each image."""

    norm_weight: Tensor  # (C,)
    norm_bias: Tensor  # (C,)
    weight1: Tensor  # (1 or B, C, D)
    bias1: Tensor  # (D,)
    weight2: Tensor  # (C, D)
    bias2: Tensor  # (C,)
    scale: Tensor | None  # (B,)


class ResidualMLP(torch.autograd.Function):
    """``x + scale * (GELU(LN(x) W1 + b1) W2ᵀ + b2)``; see `weightformer_mm.ops.residual_mlp`."""

    @staticmethod
    def forward(ctx, x, plan, stash, *parameters):
        ctx.plan = plan
        if stash is not None and stash.recomputing:
            # the output is already known; the backward pass needs only its inputs
            out, hidden = x.new_empty(()).expand_as(x), stash.hidden
        else:
            hidden = None
            if plan.keep_hidden:
                hidden = x.new_empty(x.shape[:3].numel(), len(parameters[3]), dtype=plan.dtype)
            out = _forward(x, Parameters(*parameters), plan, hidden)
            if stash is not None:
                stash.hidden = hidden
        ctx.save_for_backward(x, hidden, *parameters)
        return out

    @staticmethod
    def backward(ctx, grad):
        x, hidden, *parameters = ctx.saved_tensors
        if is_differentiated():
            arguments = x, ctx.plan, None, *parameters
            return differentiable_gradients(_reference, arguments, (grad,), ctx.needs_input_grad)
        with without_autocast(x.device.type):
            return _Backward(x, Parameters(*parameters), ctx.plan).run(grad, hidden)


def _reference(x, plan, stash, *parameters):
    converted = plan.dtype != x.dtype
    with torch.autocast(x.device.type, plan.dtype) if converted else contextlib.nullcontext():
        return reference.residual_mlp(x, *parameters, eps=plan.eps)


def _forward(x: Tensor, parameters: Parameters, plan: Plan, hidden: Tensor | None) -> Tensor:
    dtype = plan.dtype
    weight1, weight2 = _row_major(parameters.weight1, dtype), parameters.weight2.to(dtype)
    bias1, bias2 = parameters.bias1.to(dtype), parameters.bias2.to(dtype)
    tokens = rows(x)
    out = torch.empty_like(tokens)
    scale = row_scale(parameters.scale, x, dtype)
    for image, piece, (before, after) in _pieces(x, weight1, plan.tokens, hidden, bias1, 2):
        normed, _, _ = _layer_norm(tokens[piece], parameters, plan.eps)
        torch.addmm(bias1, normed.to(dtype), weight1[image], out=before)
        aten.gelu.out(before, out=after)
        if dtype == x.dtype and scale is None:
            target = torch.add(tokens[piece], bias2, out=out[piece])
            torch.addmm(target, after, weight2.T, out=target)
            continue
        branch = torch.addmm(bias2, after, weight2.T)
        if scale is not None:
            branch = branch * scale[piece]
        torch.add(tokens[piece], branch, out=out[piece])
    return out.view(x.shape)


class _Backward:
    """Computes gradients piece by piece; sums those of the parameters in at least float32."""

    def __init__(self, x: Tensor, parameters: Parameters, plan: Plan):
        self.x, self.parameters, self.plan = x, parameters, plan
        self.weight1 = _row_major(parameters.weight1, plan.dtype)
        self.weight2 = parameters.weight2.to(plan.dtype)
        self.bias1 = parameters.bias1.to(plan.dtype)
        self.sums = {}
        for name, value in vars(parameters).items():
            if name != 'scale':
                wide = torch.promote_types(value.dtype, torch.float32)
                self.sums[name] = value.new_zeros(value.shape, dtype=wide)

    def run(self, grad: Tensor, hidden: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients in the order of the arguments of `ResidualMLP.forward`."""
        x, dtype = self.x, self.plan.dtype
        tokens = rows(x)
        upstream = grad.reshape(tokens.shape)
        out = torch.empty_like(tokens)
        scale = row_scale(self.parameters.scale, x, dtype)
        pieces = _pieces(x, self.weight1, self.plan.tokens, hidden, self.bias1, 3)
        for image, piece, buffers in pieces:
            branch_grad = upstream[piece].to(dtype)
            if scale is not None:
                branch_grad = branch_grad * scale[piece]
            branch = self.branch(image, tokens[piece], branch_grad, buffers)
            torch.add(upstream[piece], branch, out=out[piece])
        sums = (total.to(getattr(self.parameters, name).dtype) for name, total in self.sums.items())
        return out.view(x.shape), None, None, *sums, None

    def branch(self, image: int, x: Tensor, grad: Tensor, buffers: list[Tensor]) -> Tensor:
        """The gradient of the branch's input; those of the parameters are added to the sums."""
        hidden, activated, hidden_grad = buffers
        sums, weight1 = self.sums, self.weight1[image]
        wide, mean, deviation = _layer_norm(x, self.parameters, self.plan.eps)
        normed = wide.to(self.plan.dtype)
        if not self.plan.keep_hidden:
            torch.addmm(self.bias1, normed, weight1, out=hidden)
        aten.gelu.out(hidden, out=activated)
        _add_product(sums['weight2'], grad.T, activated)
        sums['bias2'] += grad.sum(0, dtype=sums['bias2'].dtype)
        torch.mm(grad, self.weight2, out=hidden_grad)
        aten.gelu_backward.grad_input(hidden_grad, hidden, grad_input=hidden_grad)
        _add_product(sums['weight1'][image], normed.T, hidden_grad)
        sums['bias1'] += hidden_grad.sum(0, dtype=sums['bias1'].dtype)
        normed_grad = (hidden_grad @ weight1.T).to(wide.dtype)
        learned = self.parameters
        norm = [value.to(wide.dtype) for value in (learned.norm_weight, learned.norm_bias)]
        x_grad, weight_grad, bias_grad = aten.native_layer_norm_backward(
            normed_grad, x.to(wide.dtype), norm[0].shape, mean, deviation, *norm, [True, True, True]
        )
        sums['norm_weight'] += weight_grad
        sums['norm_bias'] += bias_grad
        return x_grad


def _row_major(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Static weights arrive transposed; products are 3 to 15 % faster if they are not (two CPU cores)."""
    return weight.to(dtype).contiguous()


def _layer_norm(x: Tensor, parameters: Parameters, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised tokens, mean and reciprocal deviation, in the wider of the two data types."""
    weight, bias = parameters.norm_weight, parameters.norm_bias
    wide = torch.promote_types(x.dtype, weight.dtype)
    return aten.native_layer_norm(x.to(wide), weight.shape, weight.to(wide), bias.to(wide), eps)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    if left.dtype == total.dtype:
        torch.addmm(total, left, right, out=total)
    else:
        total.add_(left @ right)


def _pieces(
    x: Tensor, weight1: Tensor, length: int | None, hidden: Tensor | None, like: Tensor, count: int
) -> Iterator[tuple[int, slice, list[Tensor]]]:
    """Image, tokens, and ``count`` buffers of the hidden layer; if kept, the first is part of ``hidden``."""
    pieces = list(split_rows(x, weight1.shape[0] > 1, length))
    longest = max((piece.stop - piece.start for _, piece in pieces), default=0)
    held = scratch(like, (longest, len(like)), count - (hidden is not None))
    for image, piece in pieces:
        kept = [] if hidden is None else [hidden[piece]]
        yield image, piece, [*kept, *(buffer[: piece.stop - piece.start] for buffer in held)]


def split_rows(x: Tensor, per_image: bool, length: int | None) -> Iterator[tuple[int, slice]]:
    """Image numbers, each with a slice of at most ``length`` tokens of that image, among all images' rows.

    ``per_image`` says that each image has its own parameters. Otherwise a slice may span several images, and
    the number is 0.
    """
    total = x.shape[:3].numel()
    span = total // x.shape[0] if per_image and total else total
    step = length or max(span, 1)
    for first in range(0, total, max(span, 1)):
        for start in range(first, first + span, step):
            yield first // span, slice(start, min(start + step, first + span))


def rows(x: Tensor) -> Tensor:
    """The tokens of a map as rows of a matrix, ``(B * H * W, C)``."""
    return x.reshape(-1, x.shape[-1])


def row_scale(scale: Tensor | None, x: Tensor, dtype: torch.dtype) -> Tensor | None:
    """The scale ``(B,)`` of each image of ``x``, repeated for each of its tokens, ``(B * H * W, 1)``."""
    if scale is None:
        return None
    return scale.to(dtype).repeat_interleave(x.shape[1] * x.shape[2]).unsqueeze(1)


def scratch(like: Tensor, shape: Sequence[int], count: int) -> list[Tensor]:
    """``count`` matrices with arbitrary content, valid until the thread's next call.

    On a CPU they lie in memory that is kept from call to call. Fresh memory costs a page fault for every
    4 KiB, as much time as GELU takes to fill it. On other devices, and for tensor subclasses, they are newly
    allocated.
    """
    if like.device.type != 'cpu' or type(like) not in (Tensor, torch.nn.Parameter):
        return [like.new_empty(shape) for _ in range(count)]
    rows, columns = shape
    blocks = vars(_held).setdefault(str(like.dtype), [])
    for index in range(count):
        if index == len(blocks):
            blocks.append(torch.empty(0, dtype=like.dtype, device='cpu'))
        if blocks[index].numel() < rows * columns:
            # a tensor made in inference mode cannot be written to outside it
            with torch.inference_mode(False):
                blocks[index] = torch.empty(rows * columns, dtype=like.dtype, device='cpu')
    return [block[: rows * columns].view(rows, columns) for block in blocks[:count]]
