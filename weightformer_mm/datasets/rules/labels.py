"""What a label image must hold, asked of it as the pipeline has loaded it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np


@dataclass(frozen=True)
class LabelRange:
    """The labels of a segmentation data set once they are loaded.

    Attributes:
        classes: number of classes; labels run from 0 to ``classes - 1``.
        ignore: the label of pixels that do not count.
        shifted: whether loading subtracts one (``reduce_zero_label``), for the message.
    """

    classes: int
    ignore: int = 255
    shifted: bool = False

    @classmethod
    def of(cls, dataset: Any) -> LabelRange | None:
        """That of one of mmseg's data sets; None for others, and where there are no class names."""
        if not hasattr(dataset, 'reduce_zero_label') or not hasattr(dataset, 'seg_map_suffix'):
            return None
        classes = dataset.metainfo.get('classes')
        if not classes:
            return None
        ignore = getattr(dataset, 'ignore_index', 255)
        return cls(len(classes), ignore, bool(dataset.reduce_zero_label))

    def problem(self, labels: np.ndarray, image_shape: tuple[int, ...] | None) -> str | None:
        """What is wrong with a label image; None if nothing.

        Args:
            labels: ``(H, W)`` integers.
            image_shape: height and width of the image, where they are known.
        """
        if labels.ndim != 2:
            return f'a picture of shape {labels.shape}; a label image has one channel, the class numbers'
        height, width = labels.shape
        if image_shape is not None and (height, width) != tuple(image_shape[:2]):
            return (
                f'the label image has {width}x{height} pixels, its image has '
                f'{image_shape[1]}x{image_shape[0]}'
            )
        found = np.flatnonzero(histogram(labels))
        wrong = found[(found >= self.classes) & (found != self.ignore)]
        if not wrong.size:
            return None
        shift = int(self.shifted)
        shown = ', '.join(str(value) for value in wrong[:5] + shift)
        return (
            f'label {shown}{", ..." if wrong.size > 5 else ""} is no class: {self.classes} classes are '
            f'numbered from {shift} to {self.classes - 1 + shift}'
            f'{" (reduce_zero_label: 0 is ignored)" if shift else ""}; {self.ignore} is ignored'
        )


def histogram(labels: np.ndarray) -> np.ndarray:
    """Number of pixels of each label from 0 on; ``(256,)`` for the bytes that mmseg loads."""
    if labels.dtype == np.uint8:  # several times as fast as numpy
        return cv2.calcHist([labels], [0], None, [256], [0, 256])[:, 0]
    return np.bincount(labels.reshape(-1).astype(np.int64))
