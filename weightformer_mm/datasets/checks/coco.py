"""Checks of data sets in COCO's format: detection and instance segmentation."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..guards.annotations import box_problem, class_problems, fatal_problems, file_name
from .classes import classes_of
from .images import loader, present_images, read_images
from .report import Report


def check_coco(report: Report, dataset: Any, evaluators: list[Any], everything: bool) -> None:
    """Check one of mmdet's data sets, built with ``lazy_init``, and the configs of its evaluators.

    With ``everything``, read every image instead of a sample.
    """
    own = os.path.abspath(dataset.ann_file)
    for path in (evaluator.get('ann_file') for evaluator in evaluators):
        if path and os.path.abspath(path) != own:
            where = f'{path}, but the data set reads {dataset.ann_file}'
            report.error('evaluator', 'reads another annotation file', where)
    report.looked('annotation file', 1)
    try:
        content = json.loads(Path(own).read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        report.error('annotation file', 'cannot be read as JSON', f'{own}: {error}')
        return
    problems = list(fatal_problems(content))
    if not problems and 'annotations' not in content and not dataset.test_mode:
        problems = [('no list of annotations to train on', own)]
    for problem in problems:
        report.error('annotation file', *problem)
    if problems:  # the other checks would fail on them
        return
    names, categories = classes_of(dataset) or (), [c['name'] for c in content['categories']]
    report.looked('classes', len(names))
    for problem in class_problems(names, categories):
        report.error('classes', *problem)
    for name in categories:
        if name not in names:
            report.warning('classes', 'categories of the file that are not used', repr(name))
    images = {image['id']: image for image in content['images']}
    pictured = _check_annotations(report, dataset, names, content, images)
    _check_images(report, dataset, images, pictured, everything)


def _check_annotations(
    report: Report, dataset: Any, names: Sequence[str], content: dict, images: dict
) -> set:
    """Check the annotations of the data set's classes; returns the ids of the images that have any."""
    used = {entry['id']: entry['name'] in names for entry in content['categories']}
    with_masks = loader(dataset, 'with_mask') is not None
    entries, kept = content.get('annotations', []), []
    for entry in entries:
        where, image = f'id {entry["id"]}', images.get(entry['image_id'])
        if image is None:
            report.error('annotations', 'of an image that is not in the file', where)
        elif entry['category_id'] not in used:
            report.error('annotations', 'of a category that is not in the file', where)
        elif used[entry['category_id']]:
            kept.append(entry)
            problem = box_problem(entry, image)
            if problem is not None:
                report.warning('boxes', problem, f'{where} of {file_name(image)}')
            if with_masks:
                _check_mask(report, entry, image, where)
            if dataset.test_mode and 'iscrowd' not in entry:
                report.error('annotations', "without 'iscrowd', which the evaluation needs", where)
    report.looked('annotations', len(entries))
    report.looked('boxes', len(kept))
    crowds = sum(bool(entry.get('iscrowd')) for entry in kept)
    report.note('annotations', f'{crowds} of groups (iscrowd), which are not trained on')
    return {entry['image_id'] for entry in kept}


def _check_mask(report: Report, entry: dict, image: dict, where: str) -> None:
    outline = entry.get('segmentation')
    if 'segmentation' not in entry:
        report.error('masks', "no 'segmentation', which with_mask=True needs", where)
    elif isinstance(outline, dict) and isinstance(outline.get('counts'), (list, str)):
        size = tuple(outline.get('size', ()))
        if size != (image['height'], image['width']):
            report.error('masks', 'of another size than the image', f'{where}: {size}')
    elif not isinstance(outline, list) or not any(
        isinstance(part, list) and len(part) % 2 == 0 and len(part) >= 6 for part in outline
    ):
        report.warning('masks', 'outlines that mmdet cannot use: the object is ignored', where)


def _check_images(
    report: Report, dataset: Any, images: dict, pictured: set, everything: bool
) -> None:
    empty = len(images) - len(pictured)
    drops = (dataset.filter_cfg or {}).get('filter_empty_gt') and not dataset.test_mode
    report.looked('images', len(images))
    if not images or (drops and not pictured):
        report.error('images', 'none is left: none has an object of the classes')
    elif empty:
        fate = 'left out (filter_empty_gt=True)' if drops else 'used as they are'
        report.note('images', f'{empty} of {len(images)} have no object; {fate}')
    for name, count in Counter(map(file_name, images.values())).items():
        if count > 1:
            report.warning('images', 'listed under two ids', name)
    prefix = dataset.data_prefix.get('img', '')
    items = [
        {**image, 'img_path': os.path.join(prefix, file_name(image))} for image in images.values()
    ]
    present = present_images(report, items)
    for item, shape in read_images(report, dataset, present, len(images), everything):
        stated = (item['height'], item['width'])
        if shape is not None and shape != stated:
            turned = ' (turned by its EXIF orientation?)' if shape == stated[::-1] else ''
            sizes = f'{shape[1]}x{shape[0]}, not {stated[1]}x{stated[0]}{turned}'
            where = f'{item["img_path"]} is {sizes}'
            report.error('images read', 'of another size than the file states', where)
