"""ADE20K: ``images/{training,validation}/*.jpg`` and ``annotations/{training,validation}/*.png``."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from tqdm import tqdm

from weightformer_mm.datasets.generated import write_image
from weightformer_mm.datasets.miniatures.config import MiniatureConfig
from weightformer_mm.datasets.miniatures.scene import draw_picture, sizes

FILES = re.compile(
    r'(images|annotations)|(images|annotations)/(training|validation)'
    r'|images/(training|validation)/ADE_(train|val)_\d{8}\.jpg'
    r'|annotations/(training|validation)/ADE_(train|val)_\d{8}\.png'
)
NUM_CLASSES = 150  # labels 1 to 150
OTHER = 0  # the label of what belongs to none of them
_FOLDERS = {'train': 'training', 'val': 'validation'}


def write_files(folder: Path, config: MiniatureConfig, progress_bar: tqdm) -> None:
    formats = sizes(*config.size)
    for split, name in _FOLDERS.items():
        images, annotations = folder / 'images' / name, folder / 'annotations' / name
        images.mkdir(parents=True)
        annotations.mkdir(parents=True)
        for index in range(getattr(config, split)):
            size = formats[index % len(formats)]
            picture = draw_picture(config.seed, split, index, *size, NUM_CLASSES)
            labels = np.array([picture.ground, *picture.classes]) + 1
            labels[1] = OTHER  # the first object of every picture
            stem = f'ADE_{split}_{index + 1:08d}'
            write_image(images / f'{stem}.jpg', picture.image)
            write_image(annotations / f'{stem}.png', labels.astype(np.uint8)[picture.instances])
            progress_bar.update()
