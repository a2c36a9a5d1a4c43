"""The files of a set: pictures, label PNGs, COCO JSON and, for single objects, lists of classes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from ...errors import UserError
from ..generated import Generator, check_numbers, write_image
from .classes import CLASSES, CONTEXT_CLASSES, category_id
from .context import STATIC_REACH, ContextRules
from .scene import SPLITS, render_sample

MIN_SIDE, MAX_SIDE = 64, 8192
MAX_IMAGES = 1_000_000  # file names have six digits

GENERATOR = Generator(
    name='weightformer_mm.datasets.shapes',
    tool='tools/make_shapes.py',
    files=re.compile(
        r'images|annotations|(images|annotations)/(train|val)'
        r'|(images|annotations)/(train|val)/\d{6}\.png|annotations/instances_(train|val)\.json'
        r'|annotations/classes_(train|val)\.txt'
    ),
)


@dataclass(frozen=True)
class ShapesConfig:
    """What to make.

    Attributes:
        train: number of training pictures.
        val: number of validation pictures.
        size: side of a picture in pixels.
        seed: a different seed gives a different set.
        single: one object per picture.
        context: make ContextShapes, see `context`.
        reach: in ContextShapes, the distance in pixels that every object keeps from the mark.
        cue_area: in ContextShapes, a small mark's share of the picture; None: a band.

    Raises:
        UserError: a value is out of range.
    """

    train: int = 400
    val: int = 80
    size: int = 256
    seed: int = 0
    single: bool = False
    context: bool = False
    reach: int = STATIC_REACH
    cue_area: float | None = None

    def __post_init__(self) -> None:
        check_numbers(self.train, self.val, self.seed, MAX_IMAGES)
        if not MIN_SIDE <= self.size <= MAX_SIDE:
            raise UserError(f'size must be between {MIN_SIDE} and {MAX_SIDE}, got {self.size}')
        if self.context and self.single:
            raise UserError('single and context are two kinds of sets: choose one')
        if self.context:
            ContextRules(self.reach, self.cue_area).check(self.size)
        elif (self.reach, self.cue_area) != (STATIC_REACH, None):
            raise UserError('reach and cue_area belong to context: give it as well')


def make_shapes(
    out: str | os.PathLike, config: ShapesConfig, force: bool = False, progress: bool = True
) -> bool:
    """Make the set ``config`` in the folder ``out``; see `Generator.make`."""

    def write_files(folder: Path) -> Iterator[None]:
        for split in SPLITS:
            yield from _write_split(folder, split, config)

    # the manifest states the options of a kind of set only if that kind is chosen
    unused = () if config.context else ('context', 'reach', 'cue_area')
    unused += () if config.single else ('single',)
    parameters = {name: value for name, value in asdict(config).items() if name not in unused}
    return GENERATOR.make(out, parameters, write_files, force, progress)


def _write_split(folder: Path, split: str, config: ShapesConfig) -> Iterator[None]:
    for name in ('images', 'annotations'):
        (folder / name / split).mkdir(parents=True)
    rules = ContextRules(config.reach, config.cue_area) if config.context else None
    images, annotations, classes = [], [], []
    for index in range(getattr(config, split)):
        sample = render_sample(config.seed, split, index, config.size, config.single, rules)
        file_name = f'{index:06d}.png'
        write_image(folder / 'images' / split / file_name, sample.image)
        write_image(folder / 'annotations' / split / file_name, sample.labels)
        size = {'width': config.size, 'height': config.size}
        images.append({'id': index, 'file_name': file_name, **size})
        for number, spec in enumerate(sample.objects, start=1):
            # Starts at 1: COCO's evaluator takes annotation id 0 to mean "no match".
            identity = {'id': len(annotations) + 1, 'image_id': index}
            category = {'category_id': category_id(spec.kind, sample.cue)}
            annotations.append({**identity, **category, **_outline(sample.instances == number)})
        classes.append(f'{file_name} {CLASSES.index(sample.objects[0].kind)}\n')
        yield
    categories = [
        {'id': number, 'name': name, 'supercategory': 'shape'}
        for number, name in enumerate(CONTEXT_CLASSES if config.context else CLASSES, start=1)
    ]
    content = {'images': images, 'annotations': annotations, 'categories': categories}
    path = folder / 'annotations' / f'instances_{split}.json'
    path.write_text(json.dumps(content), encoding='utf-8')
    if config.single:  # as mmpretrain's CustomDataset reads them: name and class, from 0 on
        path = folder / 'annotations' / f'classes_{split}.txt'
        path.write_text(''.join(classes), encoding='utf-8')


def _outline(seen: np.ndarray) -> dict:
    """COCO's description of a bool ``(H, W)`` mask, as a compressed run-length code."""
    code = coco_mask.encode(np.asfortranarray(seen, dtype=np.uint8))
    return {
        'bbox': coco_mask.toBbox(code).tolist(),
        'area': float(coco_mask.area(code)),
        'iscrowd': 0,
        'segmentation': {**code, 'counts': code['counts'].decode('ascii')},
    }
