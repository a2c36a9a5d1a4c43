"""COCO 2017: ``{train,val}2017/*.jpg``, and ``annotations/`` of objects and of panoptic segments."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from weightformer_mm.datasets.generated import write_image
from weightformer_mm.errors import UserError

from . import coco_panoptic
from .scene import Picture, draw_ground, draw_picture, sizes

FILES = re.compile(
    r'annotations|annotations/(instances|panoptic)_(train|val)2017\.json|(train|val)2017'
    r'|annotations/panoptic_(train|val)2017(/\d{12}\.png)?'
    r'|(train|val)2017/\d{12}\.jpg'
)
# the 80 categories have the ids from 1 to 90 without these
UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
CATEGORY_IDS = tuple(number for number in range(1, 91) if number not in UNUSED_IDS)

# Of eight pictures, two have crowds and two have nothing on them; every sixth is grey. One of the eight has
# only crowds, from which a detector learns nothing.
_PERIOD, _CROWD, _EMPTY, _CROWDS_ALONE = 8, (2, 5), (3, 7), (5,)
_GREY_PERIOD, _GREY = 6, 2
_FIRST_IMAGE_ID = {'train': 9, 'val': 139}
_IMAGE_ID_STEP = 16
_LEAST_AREA = 16  # pixels; a smaller part of an object may not give a polygon
_LICENCE = 1


def write(folder: Path, counts: dict[str, int], seed: int, size: tuple[int, int]) -> Iterator[None]:
    try:
        from mmdet.datasets import CocoPanopticDataset
    except ImportError as error:
        raise UserError(
            f"COCO's category names come from mmdet, which cannot be imported: {error}"
        ) from error
    (folder / 'annotations').mkdir()
    for split, count in counts.items():
        yield from _write_split(folder, split, count, seed, size, CocoPanopticDataset.METAINFO)


def _write_split(
    folder: Path, split: str, count: int, seed: int, size: tuple[int, int], meta: dict[str, tuple]
) -> Iterator[None]:
    (folder / f'{split}2017').mkdir()
    panoptic = folder / 'annotations' / f'panoptic_{split}2017'
    panoptic.mkdir()
    names, stuff = meta['thing_classes'], meta['stuff_classes']
    images, annotations, segmented = [], [], []
    formats = sizes(*size)
    for index in range(count):
        height, width = formats[index % len(formats)]
        if index % _PERIOD in _EMPTY:
            picture, image = None, draw_ground(seed, split, index, height, width)
        else:
            picture = draw_picture(seed, split, index, height, width, len(names))
            image = picture.image
        image_id = _FIRST_IMAGE_ID[split] + _IMAGE_ID_STEP * index
        file_name = f'{image_id:012d}.jpg'
        if index % _GREY_PERIOD == _GREY:
            image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        write_image(folder / f'{split}2017' / file_name, image)
        images.append(
            {
                'license': _LICENCE,
                'file_name': file_name,
                'coco_url': '',
                'height': height,
                'width': width,
                'date_captured': '2017-01-01 00:00:00',
                'flickr_url': '',
                'id': image_id,
            }
        )
        # From 1 on: COCO's evaluator takes an annotation of id 0 for "no match".
        if picture is not None:
            objects = _annotate(picture, index, image_id, first_id=len(annotations) + 1)
            annotations += objects.values()
        else:
            objects = {}
        instances = None if picture is None else picture.instances
        ground = index if picture is None else picture.ground
        numbers, segments = coco_panoptic.segments((height, width), instances, objects, ground)
        coco_panoptic.write_segments(panoptic / f'{image_id:012d}.png', numbers)
        own = {'segments_info': segments, 'file_name': f'{image_id:012d}.png', 'image_id': image_id}
        segmented.append(own)
        yield
    things = [
        {'supercategory': 'miniature', 'id': number, 'name': name}
        for number, name in zip(CATEGORY_IDS, names)
    ]
    everything = coco_panoptic.categories(things, stuff)
    for kind, entries, known in (
        ('instances', annotations, things),
        ('panoptic', segmented, everything),
    ):
        path = folder / 'annotations' / f'{kind}_{split}2017.json'
        path.write_text(json.dumps(_describe(images, entries, known)), encoding='utf-8')


def _describe(images: list[dict], annotations: list[dict], categories: list[dict]) -> dict:
    return {
        'info': {
            'description': 'Generated data in the layout of COCO 2017',
            'url': '',
            'version': '1.0',
            'year': 2017,
            'contributor': 'weightformer_mm',
            'date_created': '2017/01/01',
        },
        'licenses': [{'url': '', 'id': _LICENCE, 'name': 'Generated, no rights reserved'}],
        'images': images,
        'annotations': annotations,
        'categories': categories,
    }


def _annotate(picture: Picture, index: int, image_id: int, first_id: int) -> dict[int, dict]:
    """Annotations of the objects of a picture by their numbers; its own says which of them are crowds."""
    annotations: dict[int, dict] = {}
    for number, kind in enumerate(picture.classes, start=1):
        mask = picture.instances == number
        first = not annotations
        crowd = index % _PERIOD in _CROWDS_ALONE or (index % _PERIOD in _CROWD and first)
        shape = _crowd(mask) if crowd else _polygons(mask)
        if shape is not None:
            annotations[number] = {
                'segmentation': shape[0],
                'area': float(coco_mask.area(shape[1])),
                'iscrowd': int(crowd),
                'image_id': image_id,
                'bbox': [float(value) for value in coco_mask.toBbox(shape[1])],
                'category_id': CATEGORY_IDS[kind],
                'id': first_id + len(annotations),
            }
    return annotations


def _polygons(mask: np.ndarray) -> tuple[list, dict] | None:
    """Outlines of a bool ``(H, W)`` mask as COCO has them, with their run-length code; None if too small."""
    mode, method = cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    contours, _ = cv2.findContours(mask.astype(np.uint8), mode, method)
    large = [contour for contour in contours if cv2.contourArea(contour) >= _LEAST_AREA]
    polygons = [contour.ravel().astype(float).tolist() for contour in large]
    if not polygons:
        return None
    return polygons, coco_mask.merge(coco_mask.frPyObjects(polygons, *mask.shape))


def _crowd(mask: np.ndarray) -> tuple[dict, dict] | None:
    """A bool ``(H, W)`` mask as an uncompressed run-length code, as COCO's crowds have it, and compressed."""
    if np.count_nonzero(mask) < _LEAST_AREA:
        return None
    pixels = mask.ravel(order='F')
    changes = np.flatnonzero(np.diff(pixels)) + 1
    ends = [0, *changes.tolist(), pixels.size]
    counts = np.diff(ends).tolist()
    if pixels[0]:
        counts = [0, *counts]
    segmentation = {'counts': counts, 'size': list(mask.shape)}
    return segmentation, coco_mask.frPyObjects(segmentation, *mask.shape)
