"""Pictures of different sizes on one sheet, in groups with a line of text each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from ..utils.writing import written_whole

_GAP, _CAPTION = 8, 16  # pixels
_LETTER = 6  # pixels, width of a letter in Pillow's own font


def write_contact_sheet(
    groups: Sequence[Sequence[np.ndarray]],
    captions: Sequence[str],
    out: Path,
    columns: int,
    side: int,
) -> None:
    """Write a sheet; each picture is scaled to fit a square, and a row is as high as its pictures.

    Args:
        groups: the pictures to put side by side, the same number in each group; ``(H, W, 3)`` uint8, RGB.
        captions: a line below each group; if it does not fit, its beginning is cut off.
        out: the file to write.
        columns: number of groups in a row.
        side: side of the square, in pixels.
    """
    fitted = [
        [ImageOps.contain(Image.fromarray(picture), (side, side)) for picture in pictures]
        for pictures in groups
    ]
    rows = [range(first, len(groups))[:columns] for first in range(0, len(groups), columns)]
    heights = [max(picture.height for i in row for picture in fitted[i]) for row in rows]
    width = len(groups[0]) * (side + 2) + _GAP
    size = len(rows[0]) * width, sum(heights) + len(rows) * (_CAPTION + _GAP)
    sheet = Image.new('RGB', size, 'white')
    pen = ImageDraw.Draw(sheet)
    y = 0
    for row, height in zip(rows, heights):
        for column, index in enumerate(row):
            # the font may lack other letters
            text = captions[index].encode('ascii', 'replace').decode()
            pen.text((column * width, y + height + 2), text[-(width // _LETTER) :], 'black')
            for place, picture in enumerate(fitted[index]):
                sheet.paste(picture, (column * width + place * (side + 2), y))
        y += height + _CAPTION + _GAP
    with written_whole(out) as partial:
        sheet.save(partial, quality=95)
