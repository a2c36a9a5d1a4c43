"""Files of a data set: are they there, and can they be read?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from tqdm.contrib.concurrent import thread_map

from ...errors import UserError
from ..guards.images import NamedLoading, guard
from .report import Report

SAMPLE = 256  # images of a data set that are read unless all are


def existing(paths: Iterable[str]) -> set[str]:
    """Those that are files; each folder is listed once, which is faster than asking for each file."""
    split = {path: os.path.split(path) for path in paths}
    found = set()
    for folder in {folder for folder, _ in split.values()}:
        with suppress(OSError), os.scandir(folder or '.') as entries:
            found |= {(folder, entry.name) for entry in entries if not entry.is_dir()}
    return {path for path, parts in split.items() if parts in found}


def present_images(report: Report, items: Sequence[dict], key: str = 'img_path') -> list[dict]:
    """The items whose file ``item[key]`` exists; the others become errors."""
    if any('://' in item[key] for item in items[:1]):
        report.note('images', 'on another file system: not checked')
        return []
    found = existing(item[key] for item in items)
    for item in items:
        if item[key] not in found:
            report.error('images', 'no such file', item[key])
    return [item for item in items if item[key] in found]


def read_images(
    report: Report, dataset: Any, present: Sequence[dict], total: int, everything: bool
) -> list[tuple[dict, tuple[int, int] | None]]:
    """Read images as the data set's own pipeline loads them; returns items with height and width.

    Args:
        report: takes an error for each that cannot be read.
        dataset: the data set, built with ``lazy_init``.
        present: with ``img_path``, a file that exists.
        total: number of images of the data set.
        everything: read all instead of :data:`SAMPLE` of them, evenly spread.
    """
    chosen = present
    if not everything and len(present) > SAMPLE:
        chosen = [present[index * len(present) // SAMPLE] for index in range(SAMPLE)]
    report.looked('images read', len(chosen), total)
    load = loader(dataset, 'image')

    def shape(item: dict) -> tuple[int, int] | None:
        image = load and load({'img_path': item['img_path'], 'img_id': 0})['img']
        return None if image is None else image.shape[:2]

    return read_all(report, 'images read', chosen, shape)


def loader(dataset: Any, attribute: str) -> NamedLoading | None:
    """The transform of the pipeline that loads the ``'image'``, or else what ``attribute`` says."""
    for transform in getattr(getattr(dataset, 'pipeline', None), 'transforms', []):
        loads_image = type(transform).__name__.startswith('LoadImage')
        if loads_image if attribute == 'image' else getattr(transform, attribute, False):
            return guard(transform)
    return None


def read_all(
    report: Report, check: str, items: Sequence[Any], read: Callable[[Any], Any]
) -> list[tuple[Any, Any]]:
    """Read the items in threads, with a progress bar; returns each that can be read with its result."""

    def caught(item: Any) -> tuple[Any, str | None]:
        try:
            return read(item), None
        except UserError as error:
            return None, str(error).replace('cannot read the image ', '')

    title = f'{report.title.split(":")[0]} {check}'
    results = thread_map(caught, items, max_workers=8, desc=title, unit='image')
    for _, problem in results:
        if problem is not None:
            report.error(check, 'cannot be read', problem)
    return [(item, result) for item, (result, problem) in zip(items, results) if problem is None]
