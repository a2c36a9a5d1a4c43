"""Checks of mmseg's data sets: images with a label image each."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...errors import UserError
from ..guards.labels import LabelRange, histogram
from .coco import read_shape
from .files import Folders, is_remote, loaders, read_all, sample
from .report import Report

_PLAIN_MODES = ('1', 'L', 'P')  # of Pillow: one byte for a pixel


def check_segmentation(report: Report, dataset: Any, everything: bool) -> None:
    """Check one of mmseg's data sets.

    Args:
        report: takes the findings.
        dataset: the data set, built with ``lazy_init``.
        everything: read every image instead of a sample.
    """
    items = dataset.load_data_list()
    report.looked('images', len(items))
    if not items:
        report.error('images', _why_none(dataset))
        return
    if is_remote(items[0]['img_path']):
        report.note('images', 'on another file system: not looked at')
        return
    pairs = _pairs(report, items, dataset.seg_map_suffix)
    chosen = sample(pairs, everything)
    report.looked('images read', len(chosen), len(items))
    report.looked('labels read', len(chosen), len(items))
    _labels(report, dataset, _readable(report, dataset, chosen), len(chosen) == len(items))


def _pairs(report: Report, items: list[dict], suffix: str) -> list[dict]:
    folders, pairs = Folders(), []
    for item in items:
        label = item.get('seg_map_path')
        if not folders.has(item['img_path']):
            report.error('images', 'no such file', item['img_path'])
        elif label is not None and not folders.has(label):
            report.error('labels', 'no label image for an image', label)
        else:
            pairs.append(item)
    report.looked('labels', len(pairs))
    _spare_labels(report, items, suffix)
    return pairs


def _spare_labels(report: Report, items: list[dict], suffix: str) -> None:
    wanted = {item['seg_map_path'] for item in items if item.get('seg_map_path')}
    spare = 0
    for folder in {os.path.dirname(path) for path in wanted}:
        if os.path.isdir(folder):
            with os.scandir(folder) as entries:
                names = [entry.name for entry in entries if entry.name.endswith(suffix)]
            spare += sum(os.path.join(folder, name) not in wanted for name in names)
    if spare:
        report.note('labels', f'{spare} files in the label folders belong to no image of the list')


def _readable(report: Report, dataset: Any, items: list[dict]) -> list[tuple[dict, Any]]:
    """The items whose image can be read, each with the height and width of that."""
    read = read_all(
        report, 'images read', items, lambda item: read_shape(dataset, item['img_path'])
    )
    return list(read)


def _labels(report: Report, dataset: Any, items: list[tuple[dict, Any]], every: bool) -> None:
    load = loaders(dataset, 'with_seg')
    allowed = LabelRange.of(dataset)
    if not load or not items or items[0][0].get('seg_map_path') is None:
        report.note('labels read', 'the pipeline loads none')
        return
    if allowed is None:
        report.error('classes', 'the data set has no class names; set metainfo=dict(classes=...)')
        return

    def read(pair: tuple[dict, Any]) -> tuple[np.ndarray | None, str | None]:
        item, shape = pair
        path = item['seg_map_path']
        problem = _kind_problem(path)
        if problem is not None:
            return None, problem
        labels = load[0]({**item, 'seg_fields': []})['gt_seg_map']
        counts = histogram(labels) if labels.ndim == 2 else None
        return counts, allowed.problem(labels, shape)

    pixels: Counter = Counter()
    for (item, _), (counts, problem) in read_all(report, 'labels read', items, read):
        if problem is not None:
            report.error('labels read', *_split(item['seg_map_path'], problem))
        if counts is None:
            continue
        present = [int(v) for v in np.flatnonzero(counts) if v < allowed.classes]
        pixels.update({value: 1 for value in present})
        if not present and problem is None:
            report.warning(
                'labels read', 'unlabelled: every pixel is ignored', item['seg_map_path']
            )
    _seen(report, dataset.metainfo['classes'], pixels, every)


def _seen(report: Report, names: Any, images: Counter, every: bool) -> None:
    report.looked('classes', len(names))
    tell = report.warning if every else report.note  # a sample need not hold rare classes
    for index, name in enumerate(names):
        if not images[index]:
            tell('classes', 'seen in none of the label images that were read', str(name))


def _split(path: str, problem: str) -> tuple[str, str]:
    """What is wrong, to be counted, and where."""
    if problem.startswith('label '):
        return 'a value that is no class', f'{path}: {problem}'
    return 'not as it should be', f'{path}: {problem}'


def _kind_problem(path: str) -> str | None:
    """Pixels that are no single byte: mmseg would cut them to one without a word."""
    try:
        with Image.open(path) as image:
            mode = image.mode
    except OSError as error:
        raise UserError(f'{path}: not an image, or damaged') from error
    if mode in _PLAIN_MODES:
        return None
    return f'pixels of the kind {mode}; a label image has one byte for each, the number of a class'


def _why_none(dataset: Any) -> str:
    folder = dataset.data_prefix.get('img_path') or ''
    if dataset.ann_file:
        return f'none in the list {dataset.ann_file}'
    suffixes = Counter(path.suffix for path in Path(folder).rglob('*') if path.is_file())
    found = ', '.join(f'{number} end in {suffix!r}' for suffix, number in suffixes.most_common(3))
    return (
        f'none in {folder} ends in {dataset.img_suffix!r} (img_suffix); of the files there '
        f'{found or "there are none"}'
    )
