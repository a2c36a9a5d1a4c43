"""What a COCO annotation file must hold, asked of its parsed content."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from numbers import Real
from typing import Any, NamedTuple

# without these mmdet and pycocotools raise a KeyError, most of them after the training began
_REQUIRED = {
    'images': ('id', 'width', 'height'),
    'annotations': ('id', 'image_id', 'category_id', 'bbox', 'area'),
    'categories': ('id', 'name'),
}


class Problem(NamedTuple):
    """One thing that is wrong: what it is, and where."""

    what: str
    where: str


def fatal_problems(content: Any) -> Iterator[Problem]:
    """What a training would fail on, or pass over in silence: keys that lack, ids that stand twice.

    Of two images with one id, pycocotools keeps the last with the annotations of both.

    Args:
        content: the file's parsed JSON.
    """
    if not isinstance(content, dict):
        yield Problem(
            'not a COCO annotation file', f'a JSON {type(content).__name__}, not an object'
        )
        return
    for part, keys in _REQUIRED.items():
        if part == 'annotations' and part not in content:  # images alone, as COCO's test-dev
            continue
        entries = content.get(part)
        if not isinstance(entries, list):
            yield Problem(f'no list of {part}', 'keys: ' + (', '.join(map(str, content)) or 'none'))
            continue
        yield from _keys(part, entries, keys)
    yield from repeated_ids(content)
    if isinstance(content.get('annotations'), list):
        yield from _boxes(content['annotations'])


def repeated_ids(content: Any) -> Iterator[Problem]:
    """Ids that stand twice among the images, annotations or categories of a file's parsed JSON."""
    for part in _REQUIRED:
        entries = content.get(part) if isinstance(content, dict) else None
        if isinstance(entries, list):
            yield from _twice(part, entries)


def file_name(image: dict) -> str:
    """Path of an image below the image folder, as mmdet finds it."""
    if 'file_name' in image:
        return image['file_name']
    return image.get('coco_url', '').replace('http://images.cocodataset.org/', '')  # LVIS 1.0


def _keys(part: str, entries: list, keys: Iterable[str]) -> Iterator[Problem]:
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            yield Problem(f'{part} that are no objects', f'{part}[{index}]')
            continue
        for key in keys:
            if key not in entry:
                yield Problem(f'{part} without {key!r}', _name(part, index, entry))
        if part == 'images' and not file_name(entry):
            yield Problem("images without 'file_name'", _name(part, index, entry))


def _twice(part: str, entries: list) -> Iterator[Problem]:
    seen: dict[Any, dict] = {}
    for entry in entries:
        if not isinstance(entry, dict) or 'id' not in entry:
            continue
        first = seen.setdefault(entry['id'], entry)
        if first is not entry:
            kind = {'images': 'image', 'annotations': 'annotation', 'categories': 'category'}[part]
            names = [file_name(item) or item.get('name', '') for item in (first, entry)]
            more = f' ({names[0]} and {names[1]})' if all(names) else ''
            yield Problem(f'{kind} id twice', f'{entry["id"]}{more}')


def _boxes(annotations: list) -> Iterator[Problem]:
    for index, annotation in enumerate(annotations):
        if not isinstance(annotation, dict) or 'bbox' not in annotation:
            continue
        box = annotation['bbox']
        numbers = isinstance(box, (list, tuple)) and all(isinstance(v, Real) for v in box)
        if not numbers or len(box) != 4 or not all(map(math.isfinite, box)):
            yield Problem(
                'boxes that are not four finite numbers',
                f'{_name("annotations", index, annotation)}: {box}',
            )


def _name(part: str, index: int, entry: dict) -> str:
    return f'id {entry["id"]}' if 'id' in entry else f'{part}[{index}]'
