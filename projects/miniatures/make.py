"""Making a miniature on disk."""

from __future__ import annotations

import os

from weightformer_mm.datasets.generated import Generator, check_numbers
from weightformer_mm.errors import UserError

from . import coco, labels

MIN_SIDE, MAX_SIDE = 32, 8192
MAX_IMAGES = 100_000

# what writes the files, their names, and about the size of the real data
_LAYOUTS = {
    'coco': (coco.write, coco.FILES, (480, 640)),
    'ade20k': (labels.write_ade20k, labels.ADE20K_FILES, (512, 683)),
    'cityscapes': (labels.write_cityscapes, labels.CITYSCAPES_FILES, (1024, 2048)),
}
LAYOUTS = tuple(_LAYOUTS)


def make_miniature(
    layout: str,
    out: str | os.PathLike,
    train: int = 16,
    val: int = 8,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    force: bool = False,
    progress: bool = True,
) -> bool:
    """Make small generated data in the layout of a data set; see :meth:`Generator.make`.

    Args:
        layout: 'coco', 'ade20k' or 'cityscapes'.
        out: the folder, which a config calls ``data_root``.
        train, val: numbers of pictures.
        seed: another one gives another set.
        size: height and width in pixels of a picture in landscape format; the others of COCO and ADE20K are
            upright, square, narrower or have odd sides, and none is longer. None: about the real data's.
        force: replace another or a damaged miniature of this layout.
        progress: show a progress bar.

    Returns:
        True if the set was made, False if it was there.

    Raises:
        UserError: a value is out of range, ``out`` holds something else, another run is writing it, a file
            cannot be written, or mmdet, which has COCO's category names, is missing.
    """
    if layout not in LAYOUTS:
        raise UserError(f'no layout {layout!r}; choose one of {", ".join(LAYOUTS)}')
    write, files, default_size = _LAYOUTS[layout]
    check_numbers(train, val, seed, MAX_IMAGES)
    size = tuple(size or default_size)
    if len(size) != 2 or not all(MIN_SIDE <= side <= MAX_SIDE for side in size):
        raise UserError(
            f'size must be a height and a width between {MIN_SIDE} and {MAX_SIDE}, got {size}'
        )
    parameters = dict(layout=layout, train=train, val=val, seed=seed, size=list(size))
    name = f'weightformer_mm.datasets.miniatures.{layout}'  # of the sets made so far
    generator = Generator(name, 'tools/make_miniature.py', files)
    counts = {'train': train, 'val': val}
    return generator.make(
        out, parameters, lambda folder: write(folder, counts, seed, size), force, progress
    )
