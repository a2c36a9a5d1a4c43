from __future__ import annotations

from collections.abc import Sequence

from timm.models import FeatureInfo
from torch import Tensor, nn

from .classifier import ImageClassifier, take_indices


class FeatureMaps(nn.Module):
    """What ``features_only=True`` builds: a backbone that returns maps without output norms.

    Units after the last output are removed. timm has a class for such models (FeatureGetterNet) only since
    1.0, hence this one.

    Args:
        model: classifier whose backbone is taken and changed.
        out_indices: blocks of `WeightFormer` or stages of `PyramidWeightFormer`, in any order, counted
            from 0 or, if negative, from the end; an int n chooses the last n, None the last four.

    Attributes:
        feature_info: timm's, with ``channels()`` and ``reduction()`` (stride in pixels) of the outputs.

    Raises:
        ValueError: for outputs that do not exist.
    """

    def __init__(self, model: ImageClassifier, out_indices: int | Sequence[int] | None = None):
        super().__init__()
        count = len(model.backbone.units)
        if out_indices is None:
            out_indices = min(4, count)
        self.out_indices = take_indices(out_indices, count)
        self.feature_info = FeatureInfo(model.feature_info, self.out_indices)
        self.backbone = model.backbone
        self.backbone.keep_units(self.out_indices)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.backbone.with_cp = enable

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, in_chans, H, W)`` → a ``(B, C_i, ceil(H/reduction_i), ceil(W/reduction_i))`` per output."""
        return list(self.backbone(x))
