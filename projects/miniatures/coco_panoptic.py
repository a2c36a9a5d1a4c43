"""COCO's panoptic layout: a PNG per picture whose colours number its segments, and what each segment is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from weightformer_mm.datasets.generated import write_image

# the 53 categories of stuff have the ids from 92 to 200 without many
_EARLY = (92, 93, 95, 100, 107, 109, 112, 118, 119, 122, 125, 128, 130, 133, 138, 141, 144, 145)
_LATER = (147, 148, 149, 151, 154, 155, 156, 159, 161, 166, 168, 171, 175, 176, 177, 178, 180, 181)
STUFF_IDS = (*_EARLY, *_LATER, *range(184, 201))
_STEP = 1000  # between the numbers of segments: colours of several bytes, as in the real files


def categories(things: list[dict], stuff: tuple[str, ...]) -> list[dict]:
    """All categories: those of things, with the key that tells them apart, and those of stuff."""
    rest = [
        {'supercategory': 'miniature', 'id': number, 'name': name, 'isthing': 0}
        for number, name in zip(STUFF_IDS, stuff)
    ]
    return [*({**thing, 'isthing': 1} for thing in things), *rest]


def segments(
    size: tuple[int, int], instances: np.ndarray | None, objects: dict[int, dict], ground: int
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The number of each pixel's segment, and the segments; 0 is void: objects without an annotation.

    Args:
        size: height and width.
        instances: ``(H, W)``, the number of the object that is seen, 0 for the ground; None: only ground.
        objects: annotations by the number of their object.
        ground: chooses the category of the ground.
    """
    instances = np.zeros(size, np.int32) if instances is None else instances
    known = {0: (STUFF_IDS[ground % len(STUFF_IDS)], 0)}
    known.update({n: (one['category_id'], one['iscrowd']) for n, one in objects.items()})
    numbers, found = np.zeros(size, np.int32), []
    for place, (category, crowd) in known.items():
        mask = instances == place
        if not mask.any():
            continue
        number = (place + 1) * _STEP
        numbers[mask] = number
        box = cv2.boundingRect(mask.astype(np.uint8))
        one = {'id': number, 'category_id': category, 'iscrowd': crowd, 'bbox': list(box)}
        found.append({**one, 'area': int(mask.sum())})
    return numbers, found


def write_segments(path: Path, numbers: np.ndarray) -> None:
    """Write numbers ``(H, W)`` as colours, the least byte in red."""
    blue_first = [numbers >> shift & 255 for shift in (16, 8, 0)]
    write_image(path, np.stack(blue_first, axis=-1).astype(np.uint8))
