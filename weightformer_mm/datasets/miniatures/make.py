"""Making a miniature on disk."""

from __future__ import annotations

import os
from pathlib import Path

from tqdm import tqdm

from weightformer_mm.datasets.generated import Generator, make_folder_once
from weightformer_mm.datasets.miniatures import ade20k, cityscapes, coco
from weightformer_mm.datasets.miniatures.config import MiniatureConfig, MiniatureError

_LAYOUTS = {'coco': coco, 'ade20k': ade20k, 'cityscapes': cityscapes}
_VERSION = 1


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
    """Make small generated data in the layout of a data set in the folder ``out``.

    The files depend on the other arguments alone. The folder appears whole or not at all; a set that is there
    already is kept, and a folder holding anything else is never touched.

    Args:
        layout: 'coco', 'ade20k' or 'cityscapes'; ``out`` is what a config calls ``data_root``.
        train, val: numbers of pictures.
        seed: another one gives another set.
        size: height and width in pixels of the largest picture; None: about that of the real data.
        force: replace another or a damaged miniature of this layout.
        progress: show a progress bar.

    Returns:
        True if the set was made, False if it was there.

    Raises:
        MiniatureError: a value is out of range, ``out`` holds something else, another run is writing it, or
            mmdet, which has COCO's category names, is missing.
        OSError: a file cannot be written.
    """
    config = MiniatureConfig(layout, train, val, seed, size)
    module = _LAYOUTS[layout]
    generator = Generator(
        name=f'weightformer_mm.datasets.miniatures.{layout}',
        short_name=f'{layout}-miniature',
        version=_VERSION,
        tool='tools/make_miniature.py',
        error=MiniatureError,
        files=module.FILES,
    )

    def write_files(folder: Path) -> None:
        with tqdm(
            total=train + val, desc=layout, unit='image', disable=not progress
        ) as progress_bar:
            module.write_files(folder, config, progress_bar)

    return make_folder_once(out, generator, config.parameters(), write_files, force)
