"""Checks of data sets in COCO's format: detection and instance segmentation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .classes import classes_of
from .coco_file import fatal_problems, file_name
from .files import Folders, is_remote, loaders, read_all, sample
from .report import Report

_POLYGONS, _RLE = 'polygons', 'rle'


def check_coco(report: Report, dataset: Any, everything: bool) -> None:
    """Check one of mmdet's COCO-format data sets.

    Args:
        report: takes the findings.
        dataset: the data set, built with ``lazy_init``.
        everything: read every image instead of a sample.
    """
    content = _load(report, dataset.ann_file)
    if content is None:
        return
    broken = False
    for problem in fatal_problems(content):
        report.error('annotation file', problem.what, problem.where)
        broken |= not problem.what.endswith('id twice')
    if broken:  # the rest would stumble over what lacks
        return
    if 'annotations' not in content and not dataset.test_mode:
        report.error('annotation file', 'no list of annotations to train on', dataset.ann_file)
        return
    check = _Contents(report, dataset, content)
    check.classes()
    check.annotations()
    check.empty_images()
    check.images(everything)


def _load(report: Report, path: str) -> Any:
    report.looked('annotation file', 1)
    try:
        with open(path, encoding='utf-8') as file:
            return json.load(file, object_hook=_without_outlines)
    except OSError as error:
        report.error('annotation file', f'cannot be read: {error.strerror}', path)
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError
        report.error('annotation file', 'not valid JSON', f'{path}: {error}')
    return None


def _without_outlines(node: dict) -> dict:
    """Replace an outline by what is asked of it: outlines are nine tenths of a file, and of the memory."""
    if 'segmentation' in node:
        node['segmentation'] = _outline(node['segmentation'])
    if 'counts' in node and 'size' in node:
        node['counts'] = type(node['counts']).__name__
    return node


def _outline(value: Any) -> tuple[str, Any] | None:
    """Kind and size of an outline; None for one that mmdet cannot use."""
    if isinstance(value, list):
        usable = any(isinstance(p, list) and len(p) % 2 == 0 and len(p) >= 6 for p in value)
        return (_POLYGONS, None) if usable else None
    if isinstance(value, dict) and value.get('counts') in ('list', 'str') and 'size' in value:
        return _RLE, tuple(value['size'])
    return None


class _Contents:
    """The checks of one file, after its keys and ids are known to be right."""

    def __init__(self, report: Report, dataset: Any, content: dict) -> None:
        self.report, self.dataset = report, dataset
        self.images_by_id = {image['id']: image for image in content['images']}
        self.annotation_list = content.get('annotations', [])
        self.categories = {entry['id']: entry['name'] for entry in content['categories']}
        self.names = list(classes_of(dataset) or ())
        self.objects: Counter = Counter()  # per image, of the data set's classes

    def classes(self) -> None:
        """Are the class names of the data set the categories of the file, in this order?"""
        report, found = self.report, list(self.categories.values())
        report.looked('classes', len(self.names))
        for name in self.names:
            if name not in found:
                report.error(
                    'classes',
                    'not among the categories of the file',
                    f'{name!r}{_similar(name, found)}',
                )
        unused = [name for name in found if name not in self.names]
        for name in unused:
            report.warning('classes', 'categories of the file that are not used', repr(name))
        used = [name for name in found if name in self.names]
        # mmdet numbers the classes as the file has them, and names them as metainfo has them
        if len(used) == len(self.names) and used != self.names:
            index = next(i for i, pair in enumerate(zip(used, self.names)) if pair[0] != pair[1])
            report.error(
                'classes',
                'in another order than in the file, whose order counts: predictions would be misnamed',
                f'class {index} is {used[index]!r} in the file and {self.names[index]!r} in metainfo',
            )

    def annotations(self) -> None:
        """Do the annotations belong to an image and a category, and can their boxes be learnt?"""
        report, crowds, ignored = self.report, 0, 0
        report.looked('annotations', len(self.annotation_list))
        for entry in self.annotation_list:
            where = f'id {entry["id"]}'
            image = self.images_by_id.get(entry['image_id'])
            if image is None:
                report.error('annotations', 'of an image that is not in the file', where)
                continue
            if entry['category_id'] not in self.categories:
                report.error('annotations', 'of a category that is not in the file', where)
                continue
            if self.categories[entry['category_id']] not in self.names:
                continue
            self.objects[entry['image_id']] += 1
            crowds += bool(entry.get('iscrowd'))
            ignored += bool(entry.get('ignore'))
            problem = _box_problem(entry, image)
            if problem is not None:
                report.warning('boxes', problem, f'{where} of {file_name(image)}')
            self._outline(entry, image, where)
            if self.dataset.test_mode and 'iscrowd' not in entry:
                report.error('annotations', "without 'iscrowd', which the evaluation needs", where)
        report.looked('boxes', sum(self.objects.values()))
        report.note('annotations', f'{crowds} of groups (iscrowd), which no object is trained on')
        if ignored:
            report.note('annotations', f"{ignored} with 'ignore', which are passed over")

    def _outline(self, entry: dict, image: dict, where: str) -> None:
        if not any(loader.transform.with_mask for loader in loaders(self.dataset, 'with_mask')):
            return
        if not entry.get('segmentation') and 'segmentation' not in entry:
            self.report.error('masks', "no 'segmentation', which with_mask=True needs", where)
        elif entry['segmentation'] is None:
            self.report.warning('masks', 'outlines that are none: the object is ignored', where)
        elif entry['segmentation'][0] == _RLE:
            size = entry['segmentation'][1]
            if size != (image['height'], image['width']):
                self.report.error('masks', 'of another size than the image', f'{where}: {size}')

    def empty_images(self) -> None:
        """How many images have no object, and what becomes of them?"""
        empty = len(self.images_by_id) - len(self.objects)
        filtered = (self.dataset.filter_cfg or {}).get('filter_empty_gt', False)
        drops = filtered and not self.dataset.test_mode
        self.report.looked('images', len(self.images_by_id))
        if not self.images_by_id or (drops and not self.objects):
            self.report.error('images', 'none is left: none has an object of the classes')
        elif empty:
            fate = 'left out (filter_empty_gt=True)' if drops else 'used as they are'
            self.report.note(
                'images', f'{empty} of {len(self.images_by_id)} have no object; {fate}'
            )
        least = (self.dataset.filter_cfg or {}).get('min_size', 0)
        small = [
            image
            for image in self.images_by_id.values()
            if min(image['width'], image['height']) < least
        ]
        if small and not self.dataset.test_mode:
            self.report.note('images', f'{len(small)} are left out (min_size={least})')

    def images(self, everything: bool) -> None:
        """Are the images there, readable, and of the size that the file states?"""
        prefix, folders = self.dataset.data_prefix.get('img', ''), Folders()
        present, seen = [], set()
        for image in self.images_by_id.values():
            name = file_name(image)
            path = str(Path(prefix, name)) if not is_remote(prefix) else prefix
            if is_remote(path):
                self.report.note('images', 'on another file system: not looked at')
                return
            if name in seen:
                self.report.warning('images', 'listed under two ids', name)
            seen.add(name)
            if folders.has(path):
                present.append((path, image))
            else:
                self.report.error('images', 'no such file', path)
        chosen = sample(present, everything)
        self.report.looked('images read', len(chosen), len(self.images_by_id))
        for (path, image), shape in read_all(
            self.report, 'images read', chosen, lambda item: read_shape(self.dataset, item[0])
        ):
            stated = (image['height'], image['width'])
            if shape is not None and shape != stated:
                self.report.error(
                    'images read',
                    'of another size than the file states',
                    _sizes(path, shape, stated),
                )


def read_shape(dataset: Any, path: str) -> tuple[int, int] | None:
    """Height and width of an image as the data set's own pipeline loads it.

    Raises:
        UserError: it cannot be read; names the file.
    """
    found = loaders(dataset, 'image')
    if not found:
        return None
    return tuple(found[0]({'img_path': path, 'img_id': 0})['img'].shape[:2])


def _sizes(path: str, shape: tuple[int, int], stated: tuple[int, int]) -> str:
    turned = ' (turned by its EXIF orientation?)' if shape == stated[::-1] else ''
    return f'{path} is {shape[1]}x{shape[0]}, not {stated[1]}x{stated[0]}{turned}'


def _box_problem(entry: dict, image: dict) -> str | None:
    """Why a box teaches nothing or is doubtful; mmdet passes over all but those that reach outside."""
    x, y, width, height = entry['bbox']
    if width <= 0 or height <= 0:
        return 'of no or negative width or height: passed over'
    if width < 1 or height < 1 or entry['area'] <= 0:
        return 'less than a pixel wide or high, or of no area: passed over'
    if x >= image['width'] or y >= image['height'] or x + width <= 0 or y + height <= 0:
        return 'outside the image: passed over'
    if x < -1 or y < -1 or x + width > image['width'] + 1 or y + height > image['height'] + 1:
        return 'reaching more than a pixel outside the image'
    return None


def _similar(name: str, found: list[str]) -> str:
    close = [other for other in found if other.casefold().strip() == name.casefold().strip()]
    return f' (the file has {close[0]!r})' if close else ''


def evaluator_problems(evaluators: list[Any], dataset: Any) -> Iterator[str]:
    """Evaluators that read another annotation file than the data set."""
    for evaluator in evaluators:
        path = evaluator.get('ann_file')
        if path and Path(path).absolute() != Path(dataset.ann_file).absolute():
            yield f'{path}, but the data set reads {dataset.ann_file}'
