"""Cityscapes: ``leftImg8bit/{train,val}/<city>/*.png`` and ``gtFine/{train,val}/<city>/*.png``."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from tqdm import tqdm

from weightformer_mm.datasets.generated import write_image
from weightformer_mm.datasets.miniatures.config import MiniatureConfig
from weightformer_mm.datasets.miniatures.scene import draw_picture

FILES = re.compile(
    r'leftImg8bit|gtFine|(leftImg8bit|gtFine)/(train|val)|(leftImg8bit|gtFine)/(train|val)/[a-z]+'
    r'|leftImg8bit/(train|val)/[a-z]+/[a-z]+_\d{6}_\d{6}_leftImg8bit\.png'
    r'|gtFine/(train|val)/[a-z]+/[a-z]+_\d{6}_\d{6}_gtFine_label(TrainI|I)ds\.png'
)
CITIES = {'train': ('aachen', 'bochum', 'zurich'), 'val': ('frankfurt', 'munster')}
# the labels of the 19 classes that are trained and evaluated, in the order of their training labels
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
EGO_VEHICLE, IGNORED = 1, 255  # a label that no training label has, and what stands there instead


def write_files(folder: Path, config: MiniatureConfig, progress_bar: tqdm) -> None:
    for split, cities in CITIES.items():
        for kind in ('leftImg8bit', 'gtFine'):
            (folder / kind / split).mkdir(parents=True)
        for index in range(getattr(config, split)):
            picture = draw_picture(config.seed, split, index, *config.size, len(LABEL_IDS))
            train_labels = np.array([picture.ground, *picture.classes])
            labels = np.array(LABEL_IDS)[train_labels]
            # the first object of every picture is what no network learns
            train_labels[1], labels[1] = IGNORED, EGO_VEHICLE
            city = cities[index % len(cities)]
            stem = f'{city}_{index // len(cities):06d}_000019'
            images, truth = (folder / kind / split / city for kind in ('leftImg8bit', 'gtFine'))
            for path in (images, truth):
                path.mkdir(exist_ok=True)
            write_image(images / f'{stem}_leftImg8bit.png', picture.image)
            for name, values in (('labelTrainIds', train_labels), ('labelIds', labels)):
                content = values.astype(np.uint8)[picture.instances]
                write_image(truth / f'{stem}_gtFine_{name}.png', content)
            progress_bar.update()
