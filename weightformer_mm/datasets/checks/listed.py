"""Checks of any other data set of mmengine: its images, and the classes of a classifier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .classes import classes_of
from .images import present_images, read_images
from .learning import teaches
from .report import ERROR, Finding, Report


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


def class_findings(dataset: Any, items: Iterable[dict]) -> Iterator[Finding]:
    """Images whose ``gt_label`` is a number, but of no class."""
    classes = len(classes_of(dataset) or ())
    for item in items if classes else ():
        label = item.get('gt_label')
        if isinstance(label, int) and not 0 <= label < classes:
            what = f'{label} is no class of {classes}'
            yield Finding(ERROR, 'classes', what, item.get('img_path') or '')


def _are_numbered(items: Sequence[dict]) -> bool:
    return all(isinstance(item.get('gt_label'), int) for item in items)


def _check_classes(report: Report, dataset: Any, items: list[dict]) -> None:
    names = classes_of(dataset)
    if names is None or not _are_numbered(items):
        report.note(
            'classes', 'not checked: the data set has no class names, or no class per image'
        )
        return
    report.looked('classes', len(names))
    report.add(class_findings(dataset, items))
    counts = Counter(item['gt_label'] for item in items)
    for index, name in enumerate(names):
        if not counts[index]:
            report.warning('classes', 'without an image', str(name))
