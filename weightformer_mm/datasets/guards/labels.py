"""A label image with a value that is no class is named with its path, before a loss indexes with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ...errors import UserError


@dataclass(frozen=True)
class LabelRange:
    """What the label images of a segmentation data set may hold once they are loaded.

    Attributes:
        classes: number of classes; labels run from 0 to ``classes - 1``.
        ignore: the label of pixels that count nowhere.
        shifted: whether loading subtracts one (``reduce_zero_label``), for the message.
    """

    classes: int
    ignore: int = 255
    shifted: bool = False

    @classmethod
    def of(cls, dataset: Any) -> LabelRange | None:
        """That of one of mmseg's data sets; None for others, and where the number of classes is unknown."""
        if not hasattr(dataset, 'reduce_zero_label') or not hasattr(dataset, 'seg_map_suffix'):
            return None
        classes = dataset.metainfo.get('classes')
        if not classes:
            return None
        ignore = getattr(dataset, 'ignore_index', 255)
        return cls(len(classes), ignore, bool(dataset.reduce_zero_label))

    def check(self, results: dict) -> None:
        """Look at what a transform has just loaded.

        Raises:
            UserError: see :meth:`problem`; names the file.
        """
        labels = results.get('gt_seg_map')
        if labels is None:
            return
        problem = self.problem(labels, results.get('ori_shape'))
        if problem is not None:
            raise UserError(f'{results.get("seg_map_path")}: {problem}')

    def problem(self, labels: np.ndarray, image_shape: tuple[int, ...] | None) -> str | None:
        """What is wrong with a label image; None if nothing.

        Args:
            labels: ``(H, W)`` integers, as the data set's pipeline has loaded them.
            image_shape: height and width of the image, where it is known.
        """
        if labels.ndim != 2:
            return f'a picture of shape {labels.shape}; a label image has one channel, the numbers of classes'
        if image_shape is not None and labels.shape != tuple(image_shape[:2]):
            return (
                f'the label image has {labels.shape[1]}x{labels.shape[0]} pixels, its image has '
                f'{image_shape[1]}x{image_shape[0]}'
            )
        values = self.unknown(histogram(labels))
        if not values:
            return None
        shown = ', '.join(str(value + self.shifted) for value in values[:5])
        least = int(self.shifted)
        return (
            f'label {shown}{", ..." if len(values) > 5 else ""} is no class: {self.classes} classes are '
            f'numbered from {least} to {self.classes - 1 + least}'
            f'{" (reduce_zero_label: 0 is ignored)" if self.shifted else ""}; '
            f'{self.ignore} is ignored'
        )

    def unknown(self, counts: np.ndarray) -> list[int]:
        """Labels of a histogram that are neither a class nor ignored."""
        return [int(v) for v in np.flatnonzero(counts) if v >= self.classes and v != self.ignore]


def histogram(labels: np.ndarray) -> np.ndarray:
    """Number of pixels of each label from 0 on; ``(256,)`` for the bytes that mmseg loads."""
    if labels.dtype == np.uint8:  # several times as fast as numpy
        return cv2.calcHist([labels], [0], None, [256], [0, 256])[:, 0]
    return np.bincount(labels.reshape(-1).astype(np.int64))
