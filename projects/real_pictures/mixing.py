"""Nuclei of other images, pasted as a function of the position of a sample alone."""

from __future__ import annotations

from typing import Any

from mmdet.datasets.transforms import CopyPaste
from mmengine.registry import TRANSFORMS


@TRANSFORMS.register_module()
class CopyPasteWithinTheSet(CopyPaste):
    """mmdet's ``CopyPaste``, which draws the other image from one index too many."""

    def get_indexes(self, dataset: Any) -> int:
        return super().get_indexes(dataset) % len(dataset)
