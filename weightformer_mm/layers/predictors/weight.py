"""Predictors of the weight of a linear layer: ``(B, H, W, Cin) -> (B, Cin, Cout)``."""

from __future__ import annotations

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn

from ... import ops
from .registry import WEIGHT_PREDICTORS


@WEIGHT_PREDICTORS.register('bilateral')
class BilateralPredictor(nn.Module):
    """The published strategy: a product of two nonlinear maps of all tokens (arXiv 2605.01711)."""

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
        return ops.bilateral_update(
            x, self.reduce.weight, self.reduce.bias, self.expand_in, self.expand_out
        )
