"""Checks of any other data set of mmengine: its images, and the classes of a classifier."""

from __future__ import annotations

from collections import Counter
from typing import Any

from .classes import classes_of
from .images import present_images, read_images
from .learning import teaches
from .report import Report


def check_listed(report: Report, dataset: Any, everything: bool) -> None:
    """Check images and, if the data set has any, their classes; arguments as in `check_coco`."""
    dataset.full_init()
    items = [dataset.get_data_info(index) for index in range(len(dataset))]
    report.looked('images', len(items))
    if not items:
        report.error('images', 'none')
        return
    if getattr(dataset, 'test_mode', True) is False:
        report.teaches = teaches(dataset)
    if any('instances' in item for item in items):
        kinds = 'only those in COCO files and label PNGs are'
        report.note('annotations', f'not checked: {kinds}')
    if not all(isinstance(item.get('img_path'), str) for item in items):
        report.note('images', 'not files: not checked')
        return
    present = present_images(report, items)
    _check_classes(report, dataset, items)
    read_images(report, dataset, present, len(items), everything)


def _check_classes(report: Report, dataset: Any, items: list[dict]) -> None:
    names, labels = classes_of(dataset), [item.get('gt_label') for item in items]
    if names is None or not all(isinstance(label, int) for label in labels):
        report.note(
            'classes', 'not checked: the data set has no class names, or no class per image'
        )
        return
    report.looked('classes', len(names))
    for item, label in zip(items, labels):
        if not 0 <= label < len(names):
            report.error('classes', f'{label} is no class of {len(names)}', item['img_path'])
    counts = Counter(labels)
    for index, name in enumerate(names):
        if not counts[index]:
            report.warning('classes', 'without an image', str(name))
