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
    """Write a sheet; each picture is scaled to fit a square.

    Args:
        groups: the pictures to put side by side, the same number in each group; ``(H, W, 3)`` uint8, RGB.
        captions: a line below each group; if it does not fit, its beginning is cut off.
        out: the file to write.
        columns: number of groups in a row.
        side: side of the square, in pixels.
    """
    columns = min(columns, len(groups))
    rows = -(-len(groups) // columns)
    width, height = len(groups[0]) * (side + 2) + _GAP, side + _CAPTION + _GAP
    sheet = Image.new('RGB', (columns * width, rows * height), 'white')
    pen = ImageDraw.Draw(sheet)
    for index, (pictures, caption) in enumerate(zip(groups, captions)):
        x, y = index % columns * width, index // columns * height
        text = caption.encode('ascii', 'replace').decode()  # the font may lack other letters
        pen.text((x, y + side + 2), text[-(width // _LETTER) :], 'black')
        for picture in pictures:
            sheet.paste(ImageOps.contain(Image.fromarray(picture), (side, side)), (x, y))
            x += side + 2
    with written_whole(out) as partial:
        sheet.save(partial, quality=95)
