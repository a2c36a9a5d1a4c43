"""Label images: do they hold numbers of classes, in the size of their images?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image

_PLAIN_MODES = ('1', 'L', 'P')  # of Pillow: one byte per pixel


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
        """The range of one of mmseg's data sets; None for other data sets, or without class names."""
        shifted = getattr(dataset, 'reduce_zero_label', None)
        classes = None if shifted is None else dataset.metainfo.get('classes')
        return (
            cls(len(classes), getattr(dataset, 'ignore_index', 255), shifted) if classes else None
        )

    def problem(self, labels: np.ndarray, image_shape: tuple[int, ...] | None) -> str | None:
        """What is wrong with labels, ``(H, W)`` integers, of an image of this shape; None if nothing."""
        if labels.ndim != 2:
            return f'a picture of shape {labels.shape}; a label image has one channel, the class numbers'
        size, of_image = labels.shape, tuple(image_shape or labels.shape)[:2]
        if size != of_image:
            sizes = [f'{width}x{height}' for height, width in (size, of_image)]
            return f'the label image has {sizes[0]} pixels, its image has {sizes[1]}'
        found, shift = np.flatnonzero(histogram(labels)), int(self.shifted)
        wrong = found[(found >= self.classes) & (found != self.ignore)] + shift
        if not wrong.size:
            return None
        shown = ', '.join(map(str, wrong[:5])) + (', ...' if wrong.size > 5 else '')
        return (
            f'label {shown} is no class: {self.classes} classes are numbered from {shift} to '
            f'{self.classes - 1 + shift}{" (reduce_zero_label: 0 is ignored)" if shift else ""}; '
            f'{self.ignore} is ignored'
        )

    def file_problem(self, path: str, labels: np.ndarray, image_shape: Any) -> str | None:
        """`problem` of a label image that was loaded from ``path``, or that of its kind of pixels.

        Loading silently cuts them to a byte.
        """
        if os.path.isfile(path):
            with Image.open(path) as image:
                if image.mode not in _PLAIN_MODES:
                    return f'pixels of mode {image.mode}; a label image has one byte per pixel, its class'
        return self.problem(labels, image_shape)

    def present(self, labels: np.ndarray) -> list[int]:
        """The classes of labels that are ``(H, W)``."""
        return (
            np.flatnonzero(histogram(labels)[: self.classes]).tolist() if labels.ndim == 2 else []
        )


def histogram(labels: np.ndarray) -> np.ndarray:
    """Number of pixels of each label, from 0; ``(256,)`` for the bytes that mmseg loads."""
    if labels.dtype == np.uint8:  # several times as fast as numpy
        return cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel()  # OpenCV 5: one axis
    return np.bincount(labels.reshape(-1).astype(np.int64))
