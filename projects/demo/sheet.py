"""Contact sheets: image | truth | prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import mmcv
import numpy as np

from weightformer_mm.utils.writing import written_whole

GAP = 6  # pixels
HEADER = 28  # pixels
WHITE = (255, 255, 255)
TITLES = ('image', 'truth', 'prediction')


def make_sheet(
    images: Sequence[Path], pictures: Sequence[Path], out: Path, columns: int = 2
) -> None:
    """Write a sheet with ``image | truth | prediction`` for each image.

    Args:
        images: the images as the model sees them, all of one size.
        pictures: for each image the visualizer's ``truth | prediction``, side by side.
        out: the PNG to write.
        columns: the images stand in this many columns.

    Raises:
        ValueError: if a file cannot be read as an image.
    """
    rows = [_row(image, picture) for image, picture in zip(images, pictures)]
    per_column = -(-len(rows) // columns)
    rows += [np.full_like(rows[0], WHITE[0])] * (columns * per_column - len(rows))
    header = _header(rows[0].shape[1])
    stacks = [
        _framed(np.vstack([header, *rows[first : first + per_column]]), right=3 * GAP)
        for first in range(0, len(rows), per_column)
    ]
    with written_whole(out) as partial:
        mmcv.imwrite(np.hstack(stacks), str(partial))


def _row(image: Path, picture: Path) -> np.ndarray:
    truth, prediction = np.split(_read(picture), 2, axis=1)
    return np.hstack(
        [_framed(part, right=GAP, below=GAP) for part in (_read(image), truth, prediction)]
    )


def _read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    if image is None:
        raise ValueError(f'cannot read {path} as an image')
    return image


def _framed(image: np.ndarray, right: int, below: int = 0) -> np.ndarray:
    return cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT, value=WHITE)


def _header(width: int) -> np.ndarray:
    header = np.full((HEADER, width, 3), WHITE, np.uint8)
    for index, title in enumerate(TITLES):
        place = (4 + index * width // len(TITLES), HEADER - 9)
        cv2.putText(header, title, place, cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    return header
