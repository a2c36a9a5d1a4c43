"""Checks of any other data set of mmengine: its images, and the classes of a classifier."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

from ...utils.translate import explain
from .classes import classes_of
from .coco import read_shape
from .files import Folders, is_remote, read_all, sample
from .report import Report


def check_listed(report: Report, dataset: Any, everything: bool) -> None:
    """Check the images of a data set and, where it has classes of whole images, their numbers.

    Args:
        report: takes the findings.
        dataset: the data set, built with ``lazy_init``.
        everything: read every image instead of a sample.
    """
    try:
        dataset.full_init()
    except Exception as error:
        problem = explain(error)
        if problem is None and not isinstance(error, (AssertionError, RuntimeError, ValueError)):
            raise
        report.error('list of images', ' '.join(str(problem or error).split()))
        return
    items = [dataset.get_data_info(index) for index in range(len(dataset))]
    report.looked('images', len(items))
    if not items:
        report.error('images', 'none')
        return
    paths = [item['img_path'] for item in items if isinstance(item.get('img_path'), str)]
    if not paths or is_remote(paths[0]):
        report.note('images', 'not files on this file system: not looked at')
        return
    _classes(report, dataset, items)
    folders = Folders()
    present = []
    for path in paths:
        if folders.has(path):
            present.append(os.fspath(path))
        else:
            report.error('images', 'no such file', path)
    chosen = sample(present, everything)
    report.looked('images read', len(chosen), len(items))
    for _ in read_all(report, 'images read', chosen, lambda path: read_shape(dataset, path)):
        pass


def _classes(report: Report, dataset: Any, items: list[dict]) -> None:
    names, labels = classes_of(dataset), [item.get('gt_label') for item in items]
    if not all(isinstance(label, int) for label in labels):
        report.note('annotations', f'those of {type(dataset).__name__} are not looked at')
        return
    if names is None:
        report.warning('classes', 'the data set has no class names')
        return
    report.looked('classes', len(names))
    counts = Counter(labels)
    for label in sorted(counts):
        if not 0 <= label < len(names):
            where = next(item['img_path'] for item in items if item['gt_label'] == label)
            report.error('classes', f'{label} is no class of {len(names)}', where)
    for index, name in enumerate(names):
        if not counts[index]:
            report.warning('classes', 'without an image', str(name))
