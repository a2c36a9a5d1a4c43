from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import trunc_normal_
from torch import Tensor, nn

from .. import ops
from ..ops._shared.dispatch import product_dtype
from .as_built import built
from .predictors import WEIGHT_PREDICTORS


@built
class DynamicLinear(nn.Module):
    """A linear layer whose weight is a static matrix plus one predicted from the image (arXiv 2605.01711).

    ``y = x (W0 + dW / (‖dW‖₂ + 1)) + bias``, the norm over the input features of each output feature and
    ``dW`` computed from all tokens of the image in linear time.

    Args:
        in_features: channels of the input.
        out_features: channels of the output.
        reduction: the predictor's hidden width is the width it works on divided by this.
        strategy: how ``dW`` is predicted, a name in `WEIGHT_PREDICTORS`.

    Shape:
        ``(B, H, W, in_features) -> (B, H, W, out_features)``.

    Raises:
        ValueError: for an unknown strategy, or an input of another shape.
    """

    def __init__(
        self, in_features: int, out_features: int, reduction: int = 4, strategy: str = 'bilateral'
    ):
        super().__init__()
        self.in_features, self.out_features, self.strategy = in_features, out_features, strategy
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.empty(out_features))
        for parameter in (self.weight, self.bias):
            trunc_normal_(parameter, std=0.02)
        self.predictor = WEIGHT_PREDICTORS.build(
            strategy, in_features=in_features, out_features=out_features, reduction=reduction
        )

    backend = 'auto'

    def forward(self, x: Tensor) -> Tensor:
        if self.predictor is None:
            return F.linear(x, self.weight.T, self.bias)
        return ops.predicted_linear(x, self.predicted_weight(x), self.bias)

    def predicted_weight(self, x: Tensor) -> Tensor:
        """``W0 + dW / (‖dW‖₂ + 1)`` of each image, ``(B, H, W, Cin) -> (B, Cin, Cout)``."""
        update = ops.predict(self.predictor, x)
        return ops.with_bounded_update(
            update, self.weight, dim=1, dtype=product_dtype(x), backend=self.backend
        )

    def extra_repr(self) -> str:
        return f'{self.in_features}, {self.out_features}, strategy={self.strategy!r}'
