"""Label images in the layouts of ADE20K and Cityscapes.

ADE20K: ``images/{training,validation}/*.jpg`` and ``annotations/{training,validation}/*.png``.
Cityscapes: ``leftImg8bit/{train,val}/<city>/*.png`` and ``gtFine/{train,val}/<city>/*.png``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from weightformer_mm.datasets.generated import write_image

from .scene import draw_picture, sizes

ADE20K_FILES = re.compile(
    r'(images|annotations)|(images|annotations)/(training|validation)'
    r'|images/(training|validation)/ADE_(train|val)_\d{8}\.jpg'
    r'|annotations/(training|validation)/ADE_(train|val)_\d{8}\.png'
)
_ADE20K_CLASSES, _OTHER = 150, 0  # labels start at 1; this is the label for everything else

CITYSCAPES_FILES = re.compile(
    r'leftImg8bit|gtFine|(leftImg8bit|gtFine)/(train|val)|(leftImg8bit|gtFine)/(train|val)/[a-z]+'
    r'|leftImg8bit/(train|val)/[a-z]+/[a-z]+_\d{6}_\d{6}_leftImg8bit\.png'
    r'|gtFine/(train|val)/[a-z]+/[a-z]+_\d{6}_\d{6}_gtFine_label(TrainI|I)ds\.png'
)
_CITIES = {'train': ('aachen', 'bochum', 'zurich'), 'val': ('frankfurt', 'munster')}
# the labels of the 19 classes that are trained and evaluated, in the order of their training labels
_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_EGO_VEHICLE, _IGNORED = 1, 255  # a label that is not trained, and the training label in its place


def write_ade20k(
    folder: Path, counts: dict[str, int], seed: int, size: tuple[int, int]
) -> Iterator[None]:
    formats = sizes(*size)
    for split, name in (('train', 'training'), ('val', 'validation')):
        images, annotations = folder / 'images' / name, folder / 'annotations' / name
        images.mkdir(parents=True)
        annotations.mkdir(parents=True)
        for index in range(counts[split]):
            shape = formats[index % len(formats)]
            picture = draw_picture(seed, split, index, *shape, _ADE20K_CLASSES)
            labels = np.array([picture.ground, *picture.classes]) + 1
            labels[1] = _OTHER  # the first object of every picture
            stem = f'ADE_{split}_{index + 1:08d}'
            write_image(images / f'{stem}.jpg', picture.image)
            write_image(annotations / f'{stem}.png', labels.astype(np.uint8)[picture.instances])
            yield


def write_cityscapes(
    folder: Path, counts: dict[str, int], seed: int, size: tuple[int, int]
) -> Iterator[None]:
    for split, cities in _CITIES.items():
        images, truth = folder / 'leftImg8bit' / split, folder / 'gtFine' / split
        images.mkdir(parents=True)
        truth.mkdir(parents=True)
        for index in range(counts[split]):
            picture = draw_picture(seed, split, index, *size, len(_LABEL_IDS))
            train_labels = np.array([picture.ground, *picture.classes])
            labels = np.array(_LABEL_IDS)[train_labels]
            # the first object of every picture is of a class that is not trained
            train_labels[1], labels[1] = _IGNORED, _EGO_VEHICLE
            city = cities[index % len(cities)]
            stem = f'{city}_{index // len(cities):06d}_000019'
            for path in (images / city, truth / city):
                path.mkdir(exist_ok=True)
            write_image(images / city / f'{stem}_leftImg8bit.png', picture.image)
            for name, values in (('labelTrainIds', train_labels), ('labelIds', labels)):
                content = values.astype(np.uint8)[picture.instances]
                write_image(truth / city / f'{stem}_gtFine_{name}.png', content)
            yield
