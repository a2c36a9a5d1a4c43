"""The residual MLP a few tokens at a time, keeping for the backward pass only what it must.

The hidden layer is four times as wide as the map. Where all tokens go through together it is the largest
tensor of the network, twice (before and after GELU). A piece of it stays in the cache and is gone when the
next one comes; the backward pass computes it again, or takes the part before GELU if that was kept.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch
from torch import Tensor

from ..precision import without_autocast
from ..second_order import differentiable_gradients, is_differentiated
from . import reference
from .scratch import scratch
from .stash import Stash
from .tokens import row_scale, rows, split_rows

aten = torch.ops.aten


@dataclass(frozen=True)
class Plan:
    """How the MLP runs.

    Attributes:
        tokens: how many go through together; None for all.
        keep_hidden: keep the hidden layer before GELU for the backward pass.
        dtype: of the matrix products.
        eps: of the LayerNorm.
    """

    tokens: int | None
    keep_hidden: bool
    dtype: torch.dtype
    eps: float


@dataclass(frozen=True)
class Parameters:
    """What the MLP of all images has learned, and what is predicted or drawn for each of them."""

    norm_weight: Tensor  # (C,)
    norm_bias: Tensor  # (C,)
    weight1: Tensor  # (1 or B, C, D)
    bias1: Tensor  # (D,)
    weight2: Tensor  # (C, D)
    bias2: Tensor  # (C,)
    scale: Tensor | None  # (B,)

    @property
    def per_image(self) -> bool:
        return self.weight1.shape[0] > 1


class ResidualMLP(torch.autograd.Function):
    """``x + scale * (GELU(LN(x) W1 + b1) W2ᵀ + b2)``; see `weightformer_mm.ops.residual_mlp`."""

    @staticmethod
    def forward(ctx, x: Tensor, plan: Plan, stash: Stash | None, *parameters: Tensor | None):
        ctx.plan = plan
        if stash is not None and stash.recomputing:
            # the output is known already; the backward pass lacks nothing but its inputs
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
    def backward(ctx, grad: Tensor):
        x, hidden, *parameters = ctx.saved_tensors
        if is_differentiated():
            arguments = x, ctx.plan, None, *parameters
            return differentiable_gradients(_reference, arguments, (grad,), ctx.needs_input_grad)
        with without_autocast(x.device.type):
            return _Backward(x, Parameters(*parameters), ctx.plan).run(grad, hidden)


def _reference(x: Tensor, plan: Plan, stash: None, *parameters: Tensor | None) -> Tensor:
    converted = plan.dtype != x.dtype
    with torch.autocast(x.device.type, plan.dtype) if converted else contextlib.nullcontext():
        return reference.residual_mlp(x, *parameters, eps=plan.eps)


def _row_major(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """A static weight comes transposed; its products are 3 to 15 % faster if it is not (two CPU cores)."""
    return weight.to(dtype).contiguous()


def _layer_norm(x: Tensor, parameters: Parameters, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised tokens, mean and reciprocal deviation, in the wider of the two data types."""
    weight, bias = parameters.norm_weight, parameters.norm_bias
    wide = torch.promote_types(x.dtype, weight.dtype)
    return aten.native_layer_norm(x.to(wide), weight.shape, weight.to(wide), bias.to(wide), eps)


def _buffers(
    hidden: Tensor | None, pieces: list[tuple[int, slice]], like: Tensor, count: int
) -> list[Tensor]:
    """The hidden layer of all tokens if it is kept, and for the rest ones of the longest piece."""
    kept = [] if hidden is None else [hidden]
    longest = max((piece.stop - piece.start for _, piece in pieces), default=0)
    return [*kept, *scratch(like, longest, len(like), count - len(kept))]


def _part(buffer: Tensor, piece: slice, tokens: int) -> Tensor:
    """The piece of a buffer for all tokens; of one for a single piece, as much as is needed."""
    return buffer[piece] if len(buffer) == tokens else buffer[: piece.stop - piece.start]


def _forward(x: Tensor, parameters: Parameters, plan: Plan, hidden: Tensor | None) -> Tensor:
    dtype = plan.dtype
    weight1, weight2 = _row_major(parameters.weight1, dtype), parameters.weight2.to(dtype)
    bias1, bias2 = parameters.bias1.to(dtype), parameters.bias2.to(dtype)
    tokens = rows(x)
    out = torch.empty_like(tokens)
    scale = row_scale(parameters.scale, x, dtype)
    pieces = list(split_rows(x, parameters.per_image, plan.tokens))
    before, after = _buffers(hidden, pieces, bias1, 2)
    for image, piece in pieces:
        h, activated = (_part(buffer, piece, len(tokens)) for buffer in (before, after))
        normed, _, _ = _layer_norm(tokens[piece], parameters, plan.eps)
        torch.addmm(bias1, normed.to(dtype), weight1[image], out=h)
        aten.gelu.out(h, out=activated)
        if dtype == x.dtype and scale is None:
            target = torch.add(tokens[piece], bias2, out=out[piece])
            torch.addmm(target, activated, weight2.T, out=target)
            continue
        branch = torch.addmm(bias2, activated, weight2.T)
        if scale is not None:
            branch = branch * scale[piece]
        torch.add(tokens[piece], branch, out=out[piece])
    return out.view(x.shape)


class _Backward:
    """Gradients piece by piece; those of the parameters are summed in at least float32."""

    def __init__(self, x: Tensor, parameters: Parameters, plan: Plan):
        self.x, self.parameters, self.plan = x, parameters, plan
        self.weight1 = _row_major(parameters.weight1, plan.dtype)
        self.weight2 = parameters.weight2.to(plan.dtype)
        self.bias1 = parameters.bias1.to(plan.dtype)
        self.sums = {
            name: value.new_zeros(
                value.shape, dtype=torch.promote_types(value.dtype, torch.float32)
            )
            for name, value in vars(parameters).items()
            if name != 'scale'
        }

    def run(self, grad: Tensor, hidden: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients in the order of the arguments of `ResidualMLP.forward`."""
        tokens = rows(self.x)
        upstream = grad.reshape(tokens.shape)
        out = torch.empty_like(tokens)
        scale = row_scale(self.parameters.scale, self.x, self.plan.dtype)
        pieces = list(split_rows(self.x, self.parameters.per_image, self.plan.tokens))
        buffers = _buffers(hidden, pieces, self.bias1, 3)
        for image, piece in pieces:
            parts = [_part(buffer, piece, len(tokens)) for buffer in buffers]
            branch_grad = upstream[piece].to(self.plan.dtype)
            if scale is not None:
                branch_grad = branch_grad * scale[piece]
            branch = self.branch(image, tokens[piece], branch_grad, parts)
            torch.add(upstream[piece], branch, out=out[piece])
        sums = (total.to(getattr(self.parameters, name).dtype) for name, total in self.sums.items())
        return out.view(self.x.shape), None, None, *sums, None

    def branch(self, image: int, x: Tensor, grad: Tensor, parts: list[Tensor]) -> Tensor:
        """The gradient of the branch's input; the parameters' shares go to the sums."""
        dtype, sums = self.plan.dtype, self.sums
        hidden, activated, hidden_grad = parts
        weight1 = self.weight1[image]
        wide, mean, deviation = _layer_norm(x, self.parameters, self.plan.eps)
        normed = wide.to(dtype)
        if not self.plan.keep_hidden:
            torch.addmm(self.bias1, normed, weight1, out=hidden)
        aten.gelu.out(hidden, out=activated)
        _add_product(sums['weight2'], grad.T, activated)
        sums['bias2'] += grad.sum(0, dtype=sums['bias2'].dtype)
        torch.mm(grad, self.weight2, out=hidden_grad)
        aten.gelu_backward.grad_input(hidden_grad, hidden, grad_input=hidden_grad)
        _add_product(sums['weight1'][image], normed.T, hidden_grad)
        sums['bias1'] += hidden_grad.sum(0, dtype=sums['bias1'].dtype)
        return self.norm_backward((hidden_grad @ weight1.T).to(wide.dtype), x, mean, deviation)

    def norm_backward(self, grad: Tensor, x: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        weight, bias = (
            value.to(grad.dtype)
            for value in (self.parameters.norm_weight, self.parameters.norm_bias)
        )
        grad, weight_grad, bias_grad = aten.native_layer_norm_backward(
            grad, x.to(grad.dtype), weight.shape, mean, deviation, weight, bias, [True, True, True]
        )
        self.sums['norm_weight'] += weight_grad
        self.sums['norm_bias'] += bias_grad
        return grad


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    if left.dtype == total.dtype:
        torch.addmm(total, left, right, out=total)
    else:
        total.add_(left @ right)
