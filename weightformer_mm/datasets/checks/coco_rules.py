"""Rules for the annotations of a COCO file whose fields are sound: classes, references, boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .report import ERROR, Finding


def class_findings(classes: Sequence[str], content: dict, is_sorted: bool) -> Iterator[Finding]:
    """Classes that are not categories of the file, or not in its order: mmdet numbers them in that order."""
    entries = content['categories']
    if is_sorted:
        entries = sorted(entries, key=lambda entry: entry['id'])
    names = [entry['name'] for entry in entries]
    for name in dict.fromkeys(classes):
        if name not in names:
            close = [n for n in names if n.casefold().strip() == name.casefold().strip()]
            hint = f' (the file has {close[0]!r})' if close else ''
            what = 'not among the categories of the file'
            yield Finding(ERROR, 'classes', what, f'{name!r}{hint}')
        if names.count(name) > 1:
            yield Finding(ERROR, 'classes', 'twice among the categories of the file', repr(name))
        if classes.count(name) > 1:
            yield Finding(ERROR, 'classes', 'twice in metainfo.classes', repr(name))
    used = [name for name in names if name in classes]
    moved = [pair for pair in zip(used, classes) if pair[0] != pair[1]]
    if moved and sorted(used) == sorted(classes):
        what = (
            'in another order than in the file, whose order counts: predictions would be misnamed'
        )
        where = f'{moved[0][0]!r} in the file where metainfo has {moved[0][1]!r}'
        yield Finding(ERROR, 'classes', what, where)


def split(content: dict, classes: Sequence[str]) -> tuple[list[Finding], list[tuple[dict, dict]]]:
    """Annotations of no image or category, as findings, and those of the classes, with their images."""
    used = {entry['id']: entry['name'] in classes for entry in content['categories']}
    images = {image['id']: image for image in content['images']}
    dangling, kept = [], []
    for entry in content.get('annotations', ()):
        image, where = images.get(entry['image_id']), f'id {entry["id"]}'
        if image is None:
            what, where = (
                'of an image that is not in the file',
                f'{where}: `image_id` is {entry["image_id"]}',
            )
            dangling.append(Finding(ERROR, 'annotations', what, where))
        elif entry['category_id'] not in used:
            what, where = (
                'of a category that is not in the file',
                f'{where}: `category_id` is {entry["category_id"]}',
            )
            dangling.append(Finding(ERROR, 'annotations', what, where))
        elif used[entry['category_id']]:
            kept.append((entry, image))
    return dangling, kept


IGNORED, EMPTY = 'to be ignored (ignore)', 'less than a pixel wide or high, or of no area'
OUTSIDE = 'outside the image'
DROPPED = (IGNORED, EMPTY, OUTSIDE)


def dropped(entry: dict, image: dict) -> str | None:
    """Why mmdet drops an object as soon as it reads it, one of `DROPPED`."""
    x, y, width, height = entry['bbox']
    if entry.get('ignore'):
        return IGNORED
    if width < 1 or height < 1 or entry['area'] <= 0:
        return EMPTY
    if x >= image['width'] or y >= image['height'] or x + width <= 0 or y + height <= 0:
        return OUTSIDE
    return None


def reaches_out(box: Sequence[float], image: dict, far: float = 1) -> bool:
    x, y, width, height = box
    right, bottom = image['width'] + far, image['height'] + far
    return x < -far or y < -far or x + width > right or y + height > bottom


def as_corners(kept: Sequence[tuple[dict, dict]]) -> Iterator[Finding]:
    """An error if most boxes make sense only as two corners."""
    outside = sum(reaches_out(entry['bbox'], image) for entry, image in kept)
    if 2 * outside <= len(kept):
        return
    corners = 0
    for entry, image in kept:
        x, y, right, bottom = entry['bbox']
        box = (x, y, right - x, bottom - y)
        corners += right > x and bottom > y and not reaches_out(box, image)
    if corners >= 0.95 * len(kept):
        what = 'boxes look like x1, y1, x2, y2 instead of x, y, width, height'
        where = f'{outside} of {len(kept)} reach outside their images'
        yield Finding(ERROR, 'boxes', what, where)
