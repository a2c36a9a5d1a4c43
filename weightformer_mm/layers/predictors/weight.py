"""Predictors of the weight of a linear layer: ``(B, H, W, Cin) -> (B, Cin, Cout)``, not yet bounded.

``P`` are the tokens after 2x2 average pooling, ``N`` counts those before. `bilateral` is published; the
exact forms of the others are this project's own, named after the paper's comparison.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.layers import trunc_normal_
from torch import Tensor, nn

from ... import ops
from ..as_built import as_built
from ..primitives import Linear
from .registry import WEIGHT_PREDICTORS

GAP_RANK = 8


@WEIGHT_PREDICTORS.register('gap')
class GapPredictor(nn.Module):
    """A product of rank 8 of two linear maps of the mean over all tokens: ``dW = Uᵀ V / 8``."""

    def __init__(self, in_features: int, out_features: int, reduction: int):
        super().__init__()
        self.to_in = Linear(in_features, GAP_RANK * in_features)
        self.to_out = Linear(in_features, GAP_RANK * out_features)

    def forward(self, x: Tensor) -> Tensor:
        context = x.mean(dim=(1, 2))  # (B, Cin)
        left, right = (
            to(context).unflatten(1, (GAP_RANK, -1))  # (B, 8 * C) -> (B, 8, C)
            for to in (self.to_in, self.to_out)
        )
        return ops.token_correlation(left, right, GAP_RANK)


@WEIGHT_PREDICTORS.register('linear')
class LinearPredictor(nn.Module):
    """The correlation of two linear maps of all tokens: ``dW = (P Wa)ᵀ (P Wb) * Cin^-1/2 / N``."""

    backend = 'auto'

    def __init__(self, in_features: int, out_features: int, reduction: int):
        super().__init__()
        self.to_in = Linear(in_features, in_features, bias=False)
        self.to_out = Linear(in_features, out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        tokens = ops.pool_tokens(x, self.backend)
        if not as_built(self.to_in, self.to_out, bias=False):
            return self.correlated(x, self.to_in(tokens), self.to_out(tokens))
        # computed as Waᵀ (Pᵀ P) Wb: nothing of the size of a wider map
        core = ops.token_correlation(tokens, tokens, x.shape[1] * x.shape[2])  # (B, Cin, Cin)
        return self.to_in.weight @ core @ self.to_out.weight.T * x.shape[3] ** -0.5

    def correlated(self, x: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """``leftᵀ right * Cin^-1/2 / N`` of two maps of the tokens of ``x``."""
        return ops.token_correlation(left, right, x.shape[1] * x.shape[2]) * x.shape[3] ** -0.5


@WEIGHT_PREDICTORS.register('nonlinear')
class NonlinearPredictor(LinearPredictor):
    """As `LinearPredictor` with SiLU on both maps: ``dW = SiLU(P Wa)ᵀ SiLU(P Wb) * Cin^-1/2 / N``."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = ops.pool_tokens(x, self.backend)
        return self.correlated(x, F.silu(self.to_in(tokens)), F.silu(self.to_out(tokens)))


@WEIGHT_PREDICTORS.register('bilateral')
class BilateralPredictor(nn.Module):
    """The published strategy: a product of two nonlinear maps of all tokens (arXiv 2605.01711)."""

    backend = 'auto'
    takes_half = True

    def __init__(self, in_features: int, out_features: int, reduction: int):
        super().__init__()
        hidden_in, hidden_out = in_features // reduction, out_features // reduction
        self.reduce = nn.Linear(in_features, hidden_in + hidden_out)
        self.expand_in = nn.Parameter(torch.empty(hidden_in, in_features))
        self.expand_out = nn.Parameter(torch.empty(hidden_out, out_features))
        for weight in (self.reduce.weight, self.expand_in, self.expand_out):
            trunc_normal_(weight, std=0.02)
        nn.init.zeros_(self.reduce.bias)

    def forward(self, x: Tensor) -> Tensor:
        if not as_built(self.reduce):
            return self.expanded(x, *self.sides(x))
        return ops.bilateral_update(
            x,
            self.reduce.weight,
            self.reduce.bias,
            self.expand_in,
            self.expand_out,
            self.backend,
        )

    def sides(self, x: Tensor) -> Sequence[Tensor]:
        """The hidden layer of either side, ``(B, Np, Cin//r)`` and ``(B, Np, Cout//r)``."""
        tokens = ops.pool_tokens(x.to(self.expand_in.dtype), self.backend)
        widths = [len(self.expand_in), len(self.expand_out)]
        return F.silu(self.reduce(tokens)).split(widths, dim=-1)

    def expanded(self, x: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """``E1ᵀ (leftᵀ right) E2 * Cin^-1/2 / N``."""
        core = ops.token_correlation(left, right, x.shape[1] * x.shape[2])  # (B, Cin//r, Cout//r)
        return self.expand_in.T @ (core @ self.expand_out) * x.shape[3] ** -0.5


@WEIGHT_PREDICTORS.register('deep')
class DeepPredictor(BilateralPredictor):
    """As `BilateralPredictor`, with a second hidden layer of the same width (Linear, SiLU) on each side."""

    def __init__(self, in_features: int, out_features: int, reduction: int):
        super().__init__(in_features, out_features, reduction)
        self.in_hidden = Linear(in_features // reduction, in_features // reduction)
        self.out_hidden = Linear(out_features // reduction, out_features // reduction)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.sides(x)
        return self.expanded(x, F.silu(self.in_hidden(left)), F.silu(self.out_hidden(right)))
