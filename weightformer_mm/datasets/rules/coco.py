"""What a COCO annotation file must hold, asked of its parsed JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from numbers import Real
from typing import Any, NamedTuple

# without these mmdet and pycocotools raise a KeyError, often only after the training has begun
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
    """What a training would fail on, or get wrong in silence."""
    yield from missing_parts(content)
    yield from repeated_ids(content)


def missing_parts(content: Any) -> Iterator[Problem]:
    """Lists and keys that are missing, and boxes that are not four finite numbers."""
    if not isinstance(content, dict):
        kind = f'a JSON {type(content).__name__}, not an object'
        yield Problem('not a COCO annotation file', kind)
        return
    for part, keys in _REQUIRED.items():
        if part == 'annotations' and part not in content:  # images alone, as COCO's test-dev
            continue
        entries = content.get(part)
        if not isinstance(entries, list):
            yield Problem(f'no list of {part}', 'keys: ' + (', '.join(map(str, content)) or 'none'))
            continue
        for index, entry in enumerate(entries):
            yield from _entry_problems(part, index, entry, keys)


def _entry_problems(part: str, index: int, entry: Any, keys: Sequence[str]) -> Iterator[Problem]:
    where = f'{part}[{index}]'
    if not isinstance(entry, dict):
        yield Problem(f'{part} that are not objects', where)
        return
    where = f'id {entry["id"]}' if 'id' in entry else where
    for key in keys:
        if key not in entry:
            yield Problem(f'{part} without {key!r}', where)
    if part == 'images' and not file_name(entry):
        yield Problem("images without 'file_name'", where)
    if part == 'annotations' and 'bbox' in entry and not _is_box(entry['bbox']):
        yield Problem('boxes that are not four finite numbers', f'{where}: {entry["bbox"]}')


def _is_box(box: Any) -> bool:
    numbers = isinstance(box, (list, tuple)) and all(isinstance(value, Real) for value in box)
    return numbers and len(box) == 4 and all(map(math.isfinite, box))


def repeated_ids(content: Any) -> Iterator[Problem]:
    """Ids that two entries have. Of two such images, pycocotools keeps one, with the annotations of both."""
    for part, kind in zip(_REQUIRED, ('image', 'annotation', 'category')):
        entries = content.get(part) if isinstance(content, dict) else None
        seen: dict[Any, dict] = {}
        for entry in entries if isinstance(entries, list) else ():
            if not isinstance(entry, dict) or 'id' not in entry:
                continue
            first = seen.setdefault(entry['id'], entry)
            if first is not entry:
                names = [file_name(item) or item.get('name', '') for item in (first, entry)]
                more = f' ({names[0]} and {names[1]})' if all(names) else ''
                yield Problem(f'{kind} id twice', f'{entry["id"]}{more}')


def file_name(image: dict) -> str:
    """Path of an image below the image folder, as mmdet finds it."""
    if 'file_name' in image:
        return image['file_name']
    return image.get('coco_url', '').replace('http://images.cocodataset.org/', '')  # LVIS 1.0


def class_problems(classes: Sequence[str], categories: Sequence[str]) -> Iterator[Problem]:
    """Classes that are not the categories of the file, in its order: mmdet numbers what it finds there."""
    for name in classes:
        if name not in categories:
            folded = name.casefold().strip()
            close = [other for other in categories if other.casefold().strip() == folded]
            hint = f' (the file has {close[0]!r})' if close else ''
            yield Problem('not among the categories of the file', f'{name!r}{hint}')
    used = [name for name in categories if name in classes]
    if len(used) != len(classes):
        return
    for index, (category, name) in enumerate(zip(used, classes)):
        if category != name:
            yield Problem(
                'in another order than in the file, whose order counts: predictions would be misnamed',
                f'class {index} is {category!r} in the file and {name!r} in metainfo',
            )
            return


def box_problem(entry: dict, image: dict) -> str | None:
    """Why a box teaches nothing or is doubtful; mmdet ignores all but those that reach outside."""
    x, y, width, height = entry['bbox']
    if width <= 0 or height <= 0:
        return 'of no or negative width or height: ignored'
    if width < 1 or height < 1 or entry['area'] <= 0:
        return 'less than a pixel wide or high, or of no area: ignored'
    if x >= image['width'] or y >= image['height'] or x + width <= 0 or y + height <= 0:
        return 'outside the image: ignored'
    if x < -1 or y < -1 or x + width > image['width'] + 1 or y + height > image['height'] + 1:
        return 'reaching more than a pixel outside the image'
    return None
