"""Checks of mmseg's data sets: images, each with a label image."""

from __future__ import annotations

import os
from typing import Any

from mmengine.fileio import list_dir_or_file
from PIL import Image

from ...utils.writing import same_file
from .classes import NO_NAMES
from .images import loader, missing_files, present_images, read_all, read_images
from .labels import LabelRange
from .learning import ALL_IGNORED, NO_PIXEL, any_labelled
from .readable import no_image_of
from .report import ERROR, Report


def check_segmentation(report: Report, dataset: Any, everything: bool) -> None:
    """Check one of mmseg's data sets; arguments as in `check_coco`."""
    items = dataset.load_data_list()
    report.looked('images', len(items))
    if not items:
        report.error('images', no_image_of(dataset))
        return
    for name in _passed_over(dataset):
        report.warning('images', f'without {dataset.img_suffix!r} (img_suffix): not used', name)
    present = present_images(report, items)
    if not present:
        return
    labels = {item['seg_map_path'] for item in present if item.get('seg_map_path') is not None}
    missing = dict.fromkeys(missing_files(sorted(labels)))
    for path in missing:
        report.error('labels', 'no label image for an image', path)
    pairs = [item for item in present if item.get('seg_map_path') not in missing]
    report.looked('labels', len(pairs))
    read = read_images(report, dataset, pairs, len(items), everything)
    if not labels or loader(dataset, 'with_seg') is None:
        report.note('labels', 'the pipeline loads none')
        return
    seen = _check_labels(report, dataset, read, len(items))
    if not dataset.test_mode and LabelRange.of(dataset) and not report.count(ERROR):
        report.teaches = bool(seen) or any_labelled(dataset, pairs)
        if not report.teaches:
            report.error('labels read', NO_PIXEL, ALL_IGNORED)


def _passed_over(dataset: Any) -> list[str]:
    """Other pictures in the folder of a data set's images, but for its labels."""
    images, labels = (dataset.data_prefix.get(key) or '' for key in ('img_path', 'seg_map_path'))
    if os.path.isfile(dataset.ann_file) or not os.path.isdir(images):
        return []
    suffixes = {kind for kind, name in Image.registered_extensions().items() if name in Image.OPEN}
    own = (dataset.img_suffix, *([dataset.seg_map_suffix] if same_file(images, labels) else []))
    found = sorted(list_dir_or_file(images, list_dir=False, recursive=True))
    return [n for n in found if not n.endswith(own) and os.path.splitext(n)[1].lower() in suffixes]


def _check_labels(
    report: Report, dataset: Any, items: list[tuple[dict, Any]], total: int
) -> set[int]:
    """Check label images; returns the classes that they show."""
    load, allowed = loader(dataset, 'with_seg'), LabelRange.of(dataset)
    if allowed is None:
        report.warning('classes', f'{NO_NAMES}: the values of labels are not checked')
        return set()

    def read(pair: tuple[dict, Any]) -> tuple[list[int], bool, str | None]:
        item, shape = pair
        labels = load({**item, 'seg_fields': []})['gt_seg_map']
        problem = allowed.file_problem(item['seg_map_path'], labels, shape)
        return allowed.present(labels), bool((labels == allowed.ignore).any()), problem

    report.looked('labels read', len(items), total)
    seen: set[int] = set()
    is_ignored = False
    for (item, _), (present, ignored, problem) in read_all(report, 'labels read', items, read):
        path = item['seg_map_path']
        if problem is not None:
            what = 'not a label image of its image, or of other classes'
            report.error('labels read', what, f'{path}: {problem}')
        elif not present:
            report.warning('labels read', 'unlabelled: every pixel is ignored', path)
        seen |= set(present)
        is_ignored |= ignored
    names = dataset.metainfo['classes']
    report.looked('classes', len(names))
    # a sample may lack rare classes
    tell = report.warning if len(items) == total else report.note
    if is_ignored and seen == {0} and len(names) > 1:
        where = f'{allowed.ignore} counts nowhere; in masks of 0 and 255 write the class, 1, in its place'
        report.warning('labels read', f'only {names[0]} and {allowed.ignore}', where)
    for index, name in enumerate(names):
        if index not in seen:
            tell('classes', 'seen in none of the label images that were read', str(name))
    return seen
