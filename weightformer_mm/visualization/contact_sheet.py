"""Pictures of different sizes on one sheet, each with a line of text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import mmcv
import numpy as np

from ..utils.writing import written_whole

_GAP = 8  # pixels
_CAPTION = 22  # pixels
_WHITE = (255, 255, 255)
_FONT = (cv2.FONT_HERSHEY_SIMPLEX, 0.42)  # and its scale


def write_contact_sheet(
    pictures: Sequence[np.ndarray],
    captions: Sequence[str],
    out: Path,
    columns: int,
    cell: tuple[int, int],
) -> None:
    """Write a sheet; each picture is made to fit its cell and stands in it at the top left.

    Args:
        pictures: ``(H, W, 3)`` uint8, RGB.
        captions: a line below each; what does not fit is cut at its beginning.
        out: the file to write.
        columns: number of cells in a row.
        cell: width and height of the largest picture on the sheet, in pixels.
    """
    cells = [_cell(picture, text, cell) for picture, text in zip(pictures, captions)]
    columns = min(columns, len(cells))
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
    rows = [np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)]
    sheet = cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR)
    with written_whole(out) as partial:
        mmcv.imwrite(sheet, str(partial))  # cv2's own returns False where a full disk should raise


def _cell(picture: np.ndarray, text: str, size: tuple[int, int]) -> np.ndarray:
    scale = min(size[0] / picture.shape[1], size[1] / picture.shape[0])
    small = cv2.resize(
        picture,
        (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))),
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
    )
    below, right = size[1] - small.shape[0], size[0] - small.shape[1]
    framed = cv2.copyMakeBorder(
        small, 0, below + _CAPTION + _GAP, 0, right + _GAP, cv2.BORDER_CONSTANT, value=_WHITE
    )
    place = (2, small.shape[0] + _CAPTION - 7)
    cv2.putText(framed, _fitting(text, size[0]), place, *_FONT, (0, 0, 0), 1, cv2.LINE_AA)
    return framed


def _fitting(text: str, width: int) -> str:
    text = text.encode('ascii', 'replace').decode()  # what OpenCV's font has
    while len(text) > 1 and cv2.getTextSize(text, *_FONT, 1)[0][0] > width:
        text = text[1:]
    return text
