from __future__ import annotations

from collections.abc import Sequence

from timm.models import FeatureInfo
from torch import Tensor, nn

from .classifier import ImageClassifier, to_nchw

_DEFAULT_COUNT = 4


class FeatureMaps(nn.Module):
    """What ``features_only=True`` gives: a backbone's maps, as they are handed on, without output norms.

    A class of its own, since timm has had one for such models (FeatureGetterNet) only from 1.0 on. Nothing is
    left that the outputs do not need, so every parameter gets a gradient.

    Args:
        model: taken apart.
        out_indices: blocks of `WeightFormer`, stages of `PyramidWeightFormer`, in increasing order, from 0
            or, negative, from the end; an int n chooses the last n, None the last four.

    Attributes:
        feature_info: timm's, with ``channels()`` and ``reduction()`` (stride in pixels) of the outputs.

    Raises:
        ValueError: for outputs that do not exist.
    """

    def __init__(self, model: ImageClassifier, out_indices: int | Sequence[int] | None = None):
        super().__init__()
        if out_indices is None:
            out_indices = min(_DEFAULT_COUNT, len(model.backbone.units))
        self.out_indices = tuple(model.prune_intermediate_layers(out_indices, prune_norm=True))
        self.feature_info = FeatureInfo(model.feature_info, self.out_indices)
        self.backbone = model.backbone

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.backbone.with_cp = enable

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, in_chans, H, W)`` → a ``(B, C_i, ceil(H/reduction_i), ceil(W/reduction_i))`` per output."""
        return [to_nchw(feature) for feature in self.backbone.intermediates(x, self.out_indices)]
