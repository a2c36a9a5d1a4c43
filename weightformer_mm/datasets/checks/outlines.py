"""Outlines of COCO's format: polygons, or run lengths (RLE) as a list of counts or as a text."""

from __future__ import annotations

from typing import Any

from .coco_fields import are_pixels

_SHAPE = 'outlines that are neither polygons [[x, y, ...], ...] nor run lengths'


def outline_error(outline: Any, image: dict) -> tuple[str, str] | None:
    """What no reader can use, or would read as another mask: the kind of fault, and the value.

    Args:
        outline: ``segmentation`` of an annotation.
        image: the entry of its image, with ``width`` and ``height`` in pixels.
    """
    if isinstance(outline, dict):
        return _runs_error(outline, (image['height'], image['width']))
    if not isinstance(outline, list) or not all(isinstance(part, list) for part in outline):
        return _SHAPE, repr(outline)[:40]
    for part in outline:
        if not are_pixels(part):
            return 'polygons that are not finite numbers', repr(part)[:40]
    return None


def is_usable(outline: Any) -> bool:
    """Whether mmdet takes an outline; it ignores the whole object otherwise."""
    is_runs = isinstance(outline, dict) and isinstance(outline.get('counts'), (list, str))
    return is_runs or is_polygons(outline)


def is_polygons(outline: Any) -> bool:
    """Whether an outline has a polygon of at least three points."""
    parts = outline if isinstance(outline, list) else ()
    return any(isinstance(p, list) and len(p) % 2 == 0 and len(p) >= 6 for p in parts)


def is_evaluable(outline: Any) -> bool:
    """Whether pycocotools takes an outline; it tells polygons from boxes by the first part."""
    return is_usable(outline) and (isinstance(outline, dict) or len(outline[0]) > 4)


def _runs_error(outline: dict, size: tuple[int, int]) -> tuple[str, str] | None:
    if not is_usable(outline):
        return None
    stated = outline.get('size')
    if not isinstance(stated, list) or tuple(stated) != size:
        return 'of another size than the image', f'{stated}, not {[*size]}'
    counts = outline['counts']
    try:
        runs = _run_lengths(counts) if isinstance(counts, str) else counts
    except ValueError:
        runs = None
    if runs is None or not {*map(type, runs)} <= {int} or min(runs, default=-1) < 0:
        return 'run lengths that are damaged', repr(counts)[:40]
    if sum(runs) != size[0] * size[1]:
        return 'run lengths of another sum than the pixels of the image', f'{sum(runs)}'
    return None


def _run_lengths(text: str) -> list[int]:
    """The counts behind COCO's compressed text: five bits a letter, from the fourth on as differences.

    Raises:
        ValueError: a letter is none of the code, or the text ends within a number.
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError(f'{letter!r} in run lengths')
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:  # more of this number follows
            continue
        value -= (bits & 16) << (shift - 4) if bits & 16 else 0  # its sign
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError('run lengths end within a number')
    return runs
