"""The parts of a COCO annotation file: lists, the keys of their entries, and the types of the values."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import UserError
from .report import ERROR, Finding

FILE = 'annotation file'
_MISSING = object()
_MOST_PIXELS = 1e6  # larger coordinates are no pixels, and their masks would fill the memory


class _Field(NamedTuple):
    fits: Callable[[Any], bool]
    meant: str
    needed: bool = True
    wrong: str = ''  # what an entry with another value is called


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a finite number; ``true`` is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and _is_finite(value)


def are_pixels(values: list) -> bool:
    """Whether all values are numbers that can be coordinates in pixels."""
    if not {*map(type, values)} <= {int, float}:
        return False
    # neither min nor max sees every NaN
    return not values or (
        -_MOST_PIXELS < min(values) and max(values) < _MOST_PIXELS and sum(values) == sum(values)
    )


def _is_finite(value: float) -> bool:
    return -math.inf < value < math.inf


def _is_id(value: Any) -> bool:
    if type(value) is float:
        return value.is_integer() and abs(value) < 2**53
    return type(value) is int and abs(value) < 2**63


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 < value < _MOST_PIXELS


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ''


def _is_flag(value: Any) -> bool:
    return isinstance(value, (int, float)) and value in (0, 1)


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and are_pixels(value)


_ID = _Field(_is_id, 'a whole number')
_WHOLE = _Field(lambda value: type(value) is int, 'an integer')  # mmdet looks no other up
_SIZE = _Field(_is_size, 'a whole number of pixels')
_TEXT = _Field(_is_text, 'non-empty text')
_NAME = _Field(lambda value: _is_text(value) and '\0' not in value, 'non-empty text')
_FLAG = _Field(_is_flag, '0 or 1', needed=False)
_BOX = _Field(_is_box, '[x, y, width, height]', wrong='boxes that are not four finite numbers')
_AREA = _Field(is_number, 'a finite number')
_PIXELS = _Field(lambda value: is_number(value) and abs(value) < 2**62, 'a number of pixels')
_IMAGES = {'id': _ID, 'width': _SIZE, 'height': _SIZE, 'file_name': _NAME}
_CATEGORIES = {'id': _ID, 'name': _TEXT}
_LIST = _Field(lambda value: isinstance(value, list), 'a list of segments')
Fields = dict[str, dict[str, _Field]]  # of each list of a file
OBJECTS: Fields = {
    'images': _IMAGES,
    'annotations': {
        'id': _ID,
        'image_id': _ID,
        'category_id': _ID,
        'bbox': _BOX,
        'area': _AREA,
        'iscrowd': _FLAG,
        'ignore': _FLAG,
    },
    'categories': _CATEGORIES,
}
# of COCO's panoptic format
SEGMENTS: Fields = {
    'images': _IMAGES,
    'annotations': {'image_id': _ID, 'segments_info': _LIST},
    'segments_info': {
        'id': _ID,
        'category_id': _WHOLE,
        'bbox': _BOX,
        'area': _PIXELS,
        'iscrowd': _FLAG,
    },
    'categories': {**_CATEGORIES, 'isthing': _Field(_is_flag, '0 or 1')},
}
ONLY_READ = {'width', 'height', 'file_name'}  # by a data set, not by an evaluator of boxes


def read_coco(path: str) -> Any:
    """The parsed JSON of an annotation file.

    Raises:
        UserError: it cannot be read as JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding='utf-8-sig'))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f'{path} is not valid JSON: {error}') from error


def segments(content: dict) -> list[dict]:
    """The segments of all images of a panoptic file, each with its ``image_id``; lists alone count."""
    return [
        {**segment, 'image_id': entry.get('image_id')} if isinstance(segment, dict) else segment
        for entry in content.get('annotations', ())
        if isinstance(entry, dict) and isinstance(entry.get('segments_info'), list)
        for segment in entry['segments_info']
    ]


def field_findings(
    content: Any, fields: Fields = OBJECTS, unneeded: Collection[str] = ()
) -> Iterator[Finding]:
    """Missing lists and keys, values of another type, and ids that occur twice.

    mmdet and pycocotools raise an error on the former, often only after an epoch, and misread the latter.

    Args:
        content: the parsed JSON.
        fields: `OBJECTS` or `SEGMENTS`.
        unneeded: keys that may be missing.
    """
    wrong = [Finding(ERROR, FILE, *problem) for problem in _problems(content, fields, unneeded)]
    repeated = () if wrong else _repeated_ids(content, fields)
    yield from wrong or (Finding(ERROR, FILE, *problem) for problem in repeated)


def _problems(content: Any, fields: Fields, unneeded: Collection[str]) -> Iterator[tuple[str, str]]:
    if not isinstance(content, dict):
        yield 'not a COCO annotation file', f'a JSON {type(content).__name__}, not an object'
        return
    for part, of_part in fields.items():
        if part == 'annotations' and part not in content:  # only images, as in COCO's test-dev
            continue
        entries = _entries(content, part)
        if not isinstance(entries, list) and part in content:
            kind = 'null' if entries is None else f'a {type(entries).__name__}'
            yield f'{part} is {kind}, not a list', ''
            continue
        if not isinstance(entries, list):
            yield f'no list of {part}', 'keys: ' + (', '.join(map(str, content)) or 'none')
            continue
        objects = [isinstance(entry, dict) for entry in entries]
        if not all(objects):
            yield f'{part} that are not objects', f'{part}[{objects.index(False)}]'
            continue
        for key, field in of_part.items():
            yield from _field_problems(part, entries, key, field, key not in unneeded)


def _entries(content: dict, part: str) -> Any:
    return segments(content) if part == 'segments_info' else content.get(part)


def _field_problems(
    part: str, entries: list[dict], key: str, field: _Field, needed: bool
) -> Iterator[tuple[str, str]]:
    for index, entry in enumerate(entries):
        value = entry.get(key, _MISSING)
        if value is not _MISSING and field.fits(value):
            continue
        number = entry.get('id', _MISSING)
        where = f'{part}[{index}]' if number is _MISSING or key == 'id' else f'id {number}'
        where += f' of image {entry["image_id"]}' if part == 'segments_info' else ''
        if value is not _MISSING:
            what = field.wrong or f'{part} whose `{key}` is not {field.meant}'
            yield what, f'{where}: `{key}` is {_shown(value)}, not {_meant(value, field)}'
        elif field.needed and needed:
            yield f'{part} without {key!r}', where


def _meant(value: Any, field: _Field) -> str:
    """What should be there in the place of ``value``: the number in a text, a number as text, or the type."""
    try:
        other: Any = json.loads(value) if isinstance(value, str) else str(value)
    except ValueError:
        return field.meant
    one_is_number = is_number(other) or is_number(value)
    return repr(other) if one_is_number and field.fits(other) else field.meant


def _shown(value: Any) -> str:
    text = 'null' if value is None else repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'


def _repeated_ids(content: dict, fields: Fields) -> Iterator[tuple[str, str]]:
    """Of two images with one id, pycocotools keeps one, with the annotations of both."""
    for part in (part for part in fields if 'id' in fields[part]):
        entries = _entries(content, part) or ()
        of_image = part == 'segments_info'  # their ids are those of one image
        ids = Counter((entry['id'], entry['image_id'] if of_image else None) for entry in entries)
        for (number, image), count in ids.items():
            if count > 1:
                yield (
                    f'id twice in {part}',
                    f'{number} of image {image}' if of_image else f'{number}',
                )


def file_name(image: dict) -> str:
    """Path of an image below the image folder, as mmdet determines it."""
    of_lvis = str(image.get('coco_url', '')).replace('http://images.cocodataset.org/', '')
    return image.get('file_name', of_lvis)
