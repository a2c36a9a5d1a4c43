"""Checks of mmseg's data sets: images with a label image each."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...errors import UserError
from ..rules.labels import LabelRange, histogram
from .images import existing, loader, present_images, read_all, read_images
from .report import Report

_PLAIN_MODES = ('1', 'L', 'P')  # of Pillow: one byte for a pixel


def check_segmentation(report: Report, dataset: Any, everything: bool) -> None:
    """Check one of mmseg's data sets; arguments as of :func:`check_coco`."""
    items = dataset.load_data_list()
    report.looked('images', len(items))
    if not items:
        report.error('images', _why_none(dataset))
        return
    present = present_images(report, items)
    if not present:
        return
    labels = {item['seg_map_path'] for item in present if item.get('seg_map_path') is not None}
    missing = labels - existing(labels)
    for path in sorted(missing):
        report.error('labels', 'no label image for an image', path)
    pairs = [item for item in present if item.get('seg_map_path') not in missing]
    report.looked('labels', len(pairs))
    read = read_images(report, dataset, pairs, len(items), everything)
    if not labels or loader(dataset, 'with_seg') is None:
        report.note('labels', 'the pipeline loads none')
    else:
        _check_labels(report, dataset, read, len(items))


def _check_labels(report: Report, dataset: Any, items: list[tuple[dict, Any]], total: int) -> None:
    load, allowed = loader(dataset, 'with_seg'), LabelRange.of(dataset)
    if allowed is None:
        report.error('classes', 'the data set has no class names; set metainfo=dict(classes=...)')
        return

    def read(pair: tuple[dict, Any]) -> tuple[np.ndarray | None, str | None]:
        item, shape = pair
        problem = _mode_problem(item['seg_map_path'])
        if problem is not None:
            return None, problem
        labels = load({**item, 'seg_fields': []})['gt_seg_map']
        return histogram(labels) if labels.ndim == 2 else None, allowed.problem(labels, shape)

    report.looked('labels read', len(items), total)
    pictures: Counter = Counter()  # per class
    for (item, _), (counts, problem) in read_all(report, 'labels read', items, read):
        path = item['seg_map_path']
        if problem is not None:
            value = problem.startswith('label ')
            what = 'a value that is no class' if value else 'not a label image of its image'
            report.error('labels read', what, f'{path}: {problem}')
        if counts is not None:
            present = np.flatnonzero(counts[: allowed.classes]).tolist()
            pictures.update(present)
            if not present and problem is None:
                report.warning('labels read', 'unlabelled: every pixel is ignored', path)
    names = dataset.metainfo['classes']
    report.looked('classes', len(names))
    # a sample may lack rare classes
    tell = report.warning if len(items) == total else report.note
    for index, name in enumerate(names):
        if not pictures[index]:
            tell('classes', 'seen in none of the label images that were read', str(name))


def _mode_problem(path: str) -> str | None:
    """Pixels of more than a byte, which mmseg would cut to one without a word."""
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
