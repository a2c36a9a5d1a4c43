"""What a COCO annotation file must hold; reading refuses a file that would be misread."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import Any

from ...errors import UserError
from ...utils.patches import replaced
from .images import inner_datasets

# without these, mmdet and pycocotools raise a KeyError, often only after the training has begun
_REQUIRED = {
    'images': ('id', 'width', 'height', 'file_name'),
    'annotations': ('id', 'image_id', 'category_id', 'bbox', 'area'),
    'categories': ('id', 'name'),
}
Problems = Iterator[tuple[str, str]]  # what is wrong, and where


def fatal_problems(content: Any) -> Problems:
    """What training would fail on, or silently get wrong."""
    yield from list(_missing_parts(content)) or repeated_ids(content)


def _missing_parts(content: Any) -> Problems:
    """Lists and keys that are missing, and boxes that are not four finite numbers."""
    if not isinstance(content, dict):
        yield 'not a COCO annotation file', f'a JSON {type(content).__name__}, not an object'
        return
    for part, keys in _REQUIRED.items():
        if part == 'annotations' and part not in content:  # only images, as in COCO's test-dev
            continue
        entries = content.get(part)
        if not isinstance(entries, list):
            yield f'no list of {part}', 'keys: ' + (', '.join(map(str, content)) or 'none')
            continue
        for index, entry in enumerate(entries):
            where = f'{part}[{index}]'
            if not isinstance(entry, dict):
                yield f'{part} that are not objects', where
                continue
            where = f'id {entry["id"]}' if 'id' in entry else where
            for key in keys:
                if key not in entry and not (key == 'file_name' and file_name(entry)):
                    yield f'{part} without {key!r}', where
            if 'bbox' in entry and not _is_box(entry['bbox']):
                yield 'boxes that are not four finite numbers', f'{where}: {entry["bbox"]}'


def _is_box(box: Any) -> bool:
    numbers = isinstance(box, (list, tuple)) and all(isinstance(value, Real) for value in box)
    return numbers and len(box) == 4 and all(map(math.isfinite, box))


def repeated_ids(content: dict) -> Problems:
    """Ids shared by two entries. Of two such images, pycocotools keeps one, with the annotations of both."""
    for part in _REQUIRED:
        for number, count in Counter(entry['id'] for entry in content.get(part, ())).items():
            if count > 1:
                yield f'id twice in {part}', str(number)


def file_name(image: dict) -> str:
    """Path of an image below the image folder, as mmdet determines it."""
    of_lvis = (image.get('coco_url') or '').replace('http://images.cocodataset.org/', '')
    return image.get('file_name', of_lvis)


def class_problems(classes: Sequence[str], categories: Sequence[str]) -> Problems:
    """Classes that are not categories of the file, or not in its order: mmdet numbers them in file order."""
    for name in classes:
        if name not in categories:
            close = [c for c in categories if c.casefold().strip() == name.casefold().strip()]
            hint = f' (the file has {close[0]!r})' if close else ''
            yield 'not among the categories of the file', f'{name!r}{hint}'
    used = [name for name in categories if name in classes]
    moved = [pair for pair in zip(used, classes) if pair[0] != pair[1]]
    if moved and len(used) == len(classes):
        yield (
            'in another order than in the file, whose order counts: predictions would be misnamed',
            f'{moved[0][0]!r} in the file where metainfo has {moved[0][1]!r}',
        )


def box_problem(entry: dict, image: dict) -> str | None:
    """Why a box is useless or doubtful; mmdet ignores all such boxes except those partly outside."""
    x, y, width, height = entry['bbox']
    if width < 1 or height < 1 or entry['area'] <= 0:
        return 'less than a pixel wide or high, or of no area: ignored'
    if x >= image['width'] or y >= image['height'] or x + width <= 0 or y + height <= 0:
        return 'outside the image: ignored'
    if x < -1 or y < -1 or x + width > image['width'] + 1 or y + height > image['height'] + 1:
        return 'reaching more than a pixel outside the image'
    return None


@contextmanager
def checked_coco_files(problems: Callable[[Any], Problems] = fatal_problems) -> Iterator[None]:
    """Inside, each file that pycocotools reads is checked before it is indexed, without parsing it twice.

    ``problems`` finds what is wrong in parsed JSON, by default everything that makes training fail. A
    UserError names a file that has a problem or is not JSON.
    """
    try:
        from pycocotools.coco import COCO
    except ImportError:  # a classifier or a segmentor does not need it
        yield
        return
    init, create_index = COCO.__init__, COCO.createIndex

    def named_init(self: Any, annotation_file: Any = None) -> None:
        self._annotation_file = annotation_file
        try:
            init(self, annotation_file)
        except json.JSONDecodeError as error:
            raise UserError(f'{annotation_file} is not valid JSON: {error}') from error

    def checked_index(self: Any) -> None:
        path = getattr(self, '_annotation_file', None)
        for what, where in problems(self.dataset) if path else ():
            raise UserError(f'{path}: {what}: {where}; tools/check_dataset.py lists what is wrong')
        create_index(self)

    with replaced(COCO, __init__=named_init, createIndex=checked_index):
        yield


def check_categories(dataset: Any) -> None:
    """Refuse a built COCO data set if some of its classes are not categories of its annotation file.

    mmdet numbers the categories that it finds: every class after a missing one would get a wrong number.
    """
    for inner in inner_datasets(dataset):
        classes = (getattr(inner, 'metainfo', None) or {}).get('classes') or ()
        found = getattr(inner, 'cat_ids', classes)
        if len(found) != len(classes):
            raise UserError(
                f'{inner.ann_file} has {len(found)} of the {len(classes)} classes of '
                f'{type(inner).__name__} as categories; set metainfo=dict(classes=...) to the names in '
                'the file'
            )
