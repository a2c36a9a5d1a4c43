"""Generated pictures in the layouts of the small real data sets: CamVid and cell nuclei."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from projects.miniatures.scene import draw_picture
from projects.nuclei import convert_nuclei
from weightformer_mm.datasets.generated import write_image

CLASSES, VOID = 11, 11
OUTLINES = 6  # kinds of objects in a drawn picture: here all are nuclei


def make_camvid(folder: Path, train: int, val: int, size: tuple[int, int]) -> None:
    """CamVid's three splits, ``test`` the same as ``val``; the first object of a picture is void."""
    for split, number in (('train', train), ('val', val), ('test', val)):
        images, labels = folder / split, folder / f'{split}annot'
        drawn_as = 'train' if split == 'train' else 'val'
        images.mkdir(parents=True)
        labels.mkdir()
        for index in range(number):
            picture = draw_picture(0, drawn_as, index, *size, CLASSES)
            values = np.array([picture.ground, *picture.classes], np.uint8)
            values[1] = VOID
            write_image(images / f'{index:04d}.png', picture.image)
            write_image(labels / f'{index:04d}.png', values[picture.instances])


def make_nuclei(folder: Path, train: int, val: int, size: tuple[int, int]) -> None:
    """The converted form of what `write_nuclei` writes beside it."""
    source = folder.with_name(f'{folder.name}_source')
    write_nuclei(source, train + val, size)
    convert_nuclei(source, folder, val / (train + val), progress=False)


def write_nuclei(folder: Path, number: int, size: tuple[int, int]) -> dict[str, list[np.ndarray]]:
    """The public layout of BBBC038v1, every second picture grey; returns the masks of each picture."""
    written = {}
    for index in range(number):
        picture, name = draw_picture(0, 'train', index, *size, OUTLINES), f'picture{index}'
        for kind in ('images', 'masks'):
            (folder / name / kind).mkdir(parents=True)
        grey = picture.image.mean(axis=2, keepdims=True).astype(np.uint8)
        image = np.repeat(grey, 3, axis=2) if index % 2 else picture.image
        write_image(
            folder / name / 'images' / f'{name}.png', cv2.cvtColor(image, cv2.COLOR_BGR2BGRA)
        )
        masks = [picture.instances == number for number in np.unique(picture.instances)[1:]]
        for number_of_mask, mask in enumerate(masks):
            path = folder / name / 'masks' / f'{number_of_mask:03d}.png'
            write_image(path, mask.astype(np.uint8) * 255)
        written[name] = masks
    return written
