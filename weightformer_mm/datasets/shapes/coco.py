"""COCO instance annotations."""

from __future__ import annotations

import numpy as np
from pycocotools import mask as coco_mask

from weightformer_mm.datasets.shapes.classes import category_id
from weightformer_mm.datasets.shapes.scene import Sample


def categories(names: tuple[str, ...]) -> list[dict]:
    """COCO categories of these classes, with ids from 1 on."""
    return [
        {'id': number, 'name': name, 'supercategory': 'shape'}
        for number, name in enumerate(names, start=1)
    ]


def annotate(sample: Sample, image_id: int, first_id: int) -> list[dict]:
    """COCO annotations of a sample: one per object, of its visible part.

    ``bbox`` is x, y, width, height in pixels and ``segmentation`` a compressed run-length code; ids
    count up from ``first_id``.
    """
    annotations = []
    for number, spec in enumerate(sample.objects, start=1):
        seen = np.asfortranarray(sample.instances == number, dtype=np.uint8)
        code = coco_mask.encode(seen)
        annotations.append(
            {
                'id': first_id + number - 1,
                'image_id': image_id,
                'category_id': category_id(spec.kind, sample.cue),
                'bbox': [float(value) for value in coco_mask.toBbox(code)],
                'area': float(coco_mask.area(code)),
                'iscrowd': 0,
                'segmentation': {
                    'size': [int(side) for side in code['size']],
                    'counts': code['counts'].decode('ascii'),
                },
            }
        )
    return annotations
