"""Who reads a COCO annotation file, a data set or an evaluator, and what is wrong with it for them.

The check of a data set lists all findings; a training refuses the first error, before it begins.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from mmengine.dist import get_world_size
from mmengine.registry import METRICS

from ...config.read import as_list
from ...config.types import class_of
from .classes import classes_of
from .coco_fields import OBJECTS, ONLY_READ, SEGMENTS, Fields, file_name, read_coco, segments
from .coco_rules import DROPPED, as_corners, class_findings, dropped, reaches_out, split
from .images import is_unlabelled, transforms_of
from .learning import NO_OBJECT
from .outlines import is_evaluable, is_polygons, is_usable, outline_error
from .report import ERROR, NOTE, WARNING, Finding

_CROWD, _NO_OUTLINE = 'of groups (iscrowd)', 'of outlines that mmdet cannot use'
_SMALL = 'in images smaller than filter_cfg.min_size'


def is_coco(dataset: Any) -> bool:
    """Whether a built data set of mmdet reads a file in COCO's format, of objects or of panoptic segments."""
    return hasattr(type(dataset), 'COCOAPI')


def is_panoptic(dataset: Any) -> bool:
    """Whether a data set for which `is_coco` reads panoptic segments."""
    return any('Panoptic' in kind.__name__ for kind in type(dataset).__mro__)


@dataclass(frozen=True)
class Reading:
    """How a data set of mmdet reads its annotation file.

    Attributes:
        classes: names of the data set's classes, in its order.
        trains: whether a training learns from it; otherwise it is evaluated.
        alone: whether it is the only data set of its loader; another may hold images without objects.
        objects: whether the pipeline loads the objects.
        masks: whether it loads their outlines as well.
        polygons: whether it can use polygons only (``poly2mask=False``).
        drops_empty: whether images without objects are left out (``filter_empty_gt``).
        least: least side of an image in pixels; smaller ones are left out (``min_size``).
        is_sorted: whether categories count in the order of their ids (Objects365) instead of the file's.
        by_url: whether images are named by ``coco_url`` (LVIS).
        things: of a file in the panoptic format, those of the classes that are things; else None.
    """

    classes: tuple[str, ...]
    trains: bool = True
    alone: bool = True
    objects: bool = True
    masks: bool = False
    polygons: bool = False
    drops_empty: bool = False
    least: int = 0
    is_sorted: bool = False
    by_url: bool = False
    things: tuple[str, ...] | None = None

    @classmethod
    def of(cls, dataset: Any, alone: bool = True) -> Reading:
        """That of a data set for which `is_coco`, built with ``lazy_init``."""
        trains, filters = not dataset.test_mode, dataset.filter_cfg or {}
        meta = dataset.metainfo
        # without things, the rules for heads take all classes for them, too
        things = (
            tuple(meta.get('thing_classes') or meta['classes']) if is_panoptic(dataset) else None
        )
        steps = transforms_of(dataset) if things is None else ()  # segments have no outlines
        masks = [step for step in steps if getattr(step, 'with_mask', False)]
        names = [kind.__name__ for kind in type(dataset).__mro__]
        return cls(
            classes=tuple(classes_of(dataset) or ()),
            trains=trains,
            alone=alone,
            objects=not is_unlabelled(dataset),
            masks=bool(masks),
            polygons=not all(getattr(step, 'poly2mask', True) for step in masks),
            drops_empty=trains and bool(filters.get('filter_empty_gt')),
            least=filters.get('min_size', 0) if trains else 0,
            is_sorted=any('Objects365' in name for name in names),
            by_url='LVISV1Dataset' in names,
            things=things,
        )

    @property
    def fields(self) -> Fields:
        return OBJECTS if self.things is None else SEGMENTS

    def unneeded(self) -> Collection[str]:
        return {'file_name'} if self.by_url else ()

    def findings(self, content: dict) -> Iterator[Finding]:
        """What is wrong with, or worth knowing about, a file of sound fields."""
        if self.trains and self.objects and 'annotations' not in content:
            keys = 'keys: ' + ', '.join(map(str, content))
            yield Finding(ERROR, 'annotation file', 'no list of annotations to train on', keys)
            return
        if self.things is not None:
            yield from self._of_things(content['categories'])
            content = _stuff_is_no_crowd(content)
        dangling, kept = split(content, self.classes)
        found = [(entry, image, self._fate(entry, image)) for entry, image in kept]
        wrong = list(class_findings(self.classes, content, self.is_sorted))
        if self.objects:
            yield from (*wrong, *self._of_categories(content), *dangling)
            yield from self._of_others(content) if self.things is not None else ()
            yield from chain.from_iterable(self._of_object(*each) for each in found)
            yield from as_corners(kept)
            crowds = sum(bool(entry.get('iscrowd')) for entry, _ in kept)
            yield Finding(NOTE, 'annotations', f'{crowds} {_CROWD}, which are not trained on')
        pictured = {entry['image_id'] for entry, image in kept if self._fills(entry, image)}
        yield from self._of_images(content['images'], pictured)
        if self.objects and not wrong and content['images'] and (self.trains or found):
            yield from self._of_all(found)

    def _of_categories(self, content: dict) -> Iterator[Finding]:
        what = 'categories of the file that are not used'
        for name in (entry['name'] for entry in content['categories']):
            if name not in self.classes:
                yield Finding(WARNING, 'classes', what, repr(name))

    def _of_things(self, categories: list[dict]) -> Iterator[Finding]:
        what = 'things in the file alone, or in metainfo.thing_classes alone'
        for name, is_thing in ((entry['name'], entry['isthing']) for entry in categories):
            if name in self.classes and bool(is_thing) != (name in self.things):
                yield Finding(ERROR, 'classes', what, f'{name!r}: `isthing` is {is_thing}')

    def _of_others(self, content: dict) -> Iterator[Finding]:
        """Segments of classes that the data set does not know, which mmdet looks up."""
        names = {entry['id']: entry['name'] for entry in content['categories']}
        for entry in content['annotations']:
            name = names.get(entry['category_id'])
            is_read = entry['area'] > 0 and min(entry['bbox'][2:]) >= 1
            if name is not None and name not in self.classes and is_read:
                what = 'of a category that is not in metainfo.classes'
                yield Finding(ERROR, 'annotations', what, f'id {entry["id"]}: {name!r}')

    def _fills(self, entry: dict, image: dict) -> bool:
        """Whether the image of an object counts as one with objects."""
        if self.things is None:
            return True
        return entry['is_thing'] and self._fate(entry, image) is None

    def _fate(self, entry: dict, image: dict) -> str | None:
        """Why a training passes an object over; None if it learns from it."""
        if min(image['width'], image['height']) < self.least:
            return _SMALL
        reason = dropped(entry, image)
        if reason is not None:
            return reason
        outline = entry.get('segmentation')
        if self.masks and not (is_polygons(outline) if self.polygons else is_usable(outline)):
            return _NO_OUTLINE
        return _CROWD if entry.get('iscrowd') else None

    def _of_object(self, entry: dict, image: dict, fate: str | None) -> Iterator[Finding]:
        where = f'id {entry["id"]}'
        if fate in DROPPED:
            place = f'{where} of {file_name(image)}'
            yield Finding(WARNING, 'boxes', f'{fate}: ignored', place)
            return
        if reaches_out(entry['bbox'], image):
            place = f'{where} of {file_name(image)}'
            yield Finding(WARNING, 'boxes', 'reaching more than a pixel outside the image', place)
        if not self.masks or fate == _SMALL:
            return
        wrong = _wrong_outline(entry, image, 'with_mask=True')
        if wrong is not None:
            yield wrong
        elif fate == _NO_OUTLINE:
            what = 'outlines that mmdet cannot use: the object is ignored'
            yield Finding(WARNING, 'masks', what, where)

    def _of_images(self, images: list[dict], pictured: set) -> Iterator[Finding]:
        large = [image for image in images if min(image['width'], image['height']) >= self.least]
        empty = sum(image['id'] not in pictured for image in images)
        if not images or (self.drops_empty and not pictured):
            what = 'none is left: none has an object of the classes'
            yield Finding(ERROR, 'images', what)
        elif not large:
            what = f'none is left: all are smaller than filter_cfg.min_size={self.least}'
            yield Finding(ERROR, 'images', what)
        elif empty:
            fate = 'left out (filter_empty_gt=True)' if self.drops_empty else 'used as they are'
            yield Finding(NOTE, 'images', f'{empty} of {len(images)} have no object; {fate}')
        for name, count in Counter(map(file_name, images)).items():
            if count > 1:
                yield Finding(WARNING, 'images', 'listed under two ids', name)

    def _of_all(self, found: list[tuple[dict, dict, str | None]]) -> Iterator[Finding]:
        fates = Counter(fate for _, _, fate in found)
        if fates[None] or (self.drops_empty and not found):  # then no image is left either
            return
        level = ERROR if found or self.alone else WARNING
        counted = ''.join(f', {count} {fate}' for fate, count in fates.items() if fate)
        where = f'of {len(found)} objects of the classes{counted}'
        what = NO_OBJECT if self.trains else 'no object is left to compare with'
        yield Finding(level, 'annotations', what, where)


@dataclass(frozen=True)
class Evaluation:
    """How COCO's evaluator reads an annotation file.

    Attributes:
        classes: names of the classes of the data set that it evaluates.
        masks: whether it compares masks.
        is_sorted: as that of `Reading`.
        of_segments: whether it compares panoptic segments.
        path: its annotation file.
        others: the files that the data sets read if its own is none of them.
        most: no more images than this are predicted; None for all.
    """

    classes: tuple[str, ...]
    masks: bool = False
    is_sorted: bool = False
    of_segments: bool = False
    path: str = ''
    others: tuple[str, ...] = ()
    most: int | None = None

    @classmethod
    def of(
        cls, evaluator: Any, datasets: Sequence[Any], most: int | None = None
    ) -> Evaluation | None:
        """That of an evaluator's config for its loader's data sets; None if it compares with no COCO file.

        ``most``: as `most_images` of the loader.
        """
        kinds = getattr(class_of(evaluator, METRICS), '__mro__', ())
        names = {kind.__name__ for kind in kinds} & {'CocoMetric', 'CocoPanopticMetric'}
        path = evaluator.get('ann_file')
        of_segments = 'CocoPanopticMetric' in names
        datasets = [d for d in datasets if is_panoptic(d) == of_segments]
        if not path or not names or not datasets or evaluator.get('format_only'):
            return None
        same = [d for d in datasets if os.path.realpath(d.ann_file or '') == os.path.realpath(path)]
        used = (same or datasets)[0]
        masks = 'segm' in as_list(evaluator.get('metric', 'bbox'))
        is_sorted = bool(evaluator.get('sort_categories'))
        others = () if same else tuple(d.ann_file or '' for d in datasets)
        limits = [limit for limit in (most, _indexed(used)) if limit is not None]
        least = min(limits, default=None)
        return cls(Reading.of(used).classes, masks, is_sorted, of_segments, path, others, least)

    @property
    def fields(self) -> Fields:
        return SEGMENTS if self.of_segments else OBJECTS

    def unneeded(self) -> Collection[str]:
        if self.of_segments:
            return ()
        return {'file_name'} if self.masks else ONLY_READ

    def findings(self, content: dict) -> Iterator[Finding]:
        """As those of `Reading`."""
        if self.most is not None and self.most < len(content['images']):
            yield self._missed(len(content['images']))
        yield from class_findings(self.classes, content, self.is_sorted)
        if self.of_segments:
            content = {**content, 'annotations': segments(content)}
        dangling, kept = split(content, self.classes)
        yield from dangling
        for entry, image in kept:
            where = f'id {entry["id"]}'
            if entry['id'] == 0:
                what = "with id 0, which COCO's evaluator takes for: no match"
                where = f'`id` is 0 of {image.get("file_name", image["id"])}; number them from 1'
                yield Finding(ERROR, 'annotations', what, where)
            if 'iscrowd' not in entry:
                what = "without 'iscrowd', which the evaluation needs"
                yield Finding(ERROR, 'annotations', what, where)
            if self.masks:
                wrong = _wrong_outline(entry, image, 'the evaluation of masks')
                if wrong is not None:
                    yield wrong
                elif not is_evaluable(entry['segmentation']):
                    what = 'outlines that the evaluation cannot use'
                    yield Finding(ERROR, 'masks', what, where)
        if self.of_segments:
            yield from _incomparable(content, kept)
        elif not kept:  # a test may still write its predictions
            yield Finding(WARNING, 'annotations', 'no object is there to compare with')
        if self.others and not _of_same_images(self.path, self.others):
            files = ' or '.join(self.others)
            where = (
                f'{self.path}, of other images; set its ann_file to that of the data set, {files}'
            )
            yield Finding(ERROR, 'evaluator', 'reads another annotation file', where)

    def _missed(self, images: int) -> Finding:
        what = 'counts every image of its ann_file, and those that are left out as missed'
        keys = 'num_batch_per_epoch and indices of the data loader'
        where = f'{keys} leave {self.most} of {images} images: take all'
        if not self.of_segments:
            where += ", or set the evaluator's ann_file=None and add 'instances' to PackDetInputs.meta_keys"
        return Finding(WARNING, 'evaluator', what, where)  # to try something, it is what is wanted


def _of_same_images(path: str, others: Sequence[str]) -> bool:
    """Whether annotation files number the same images in the same way; not all of them need names."""
    one, other = (
        {image.get('id'): image.get('file_name') for p in paths for image in read_coco(p)['images']}
        for paths in ([path], others)
    )
    pairs = ((name, other.get(number)) for number, name in one.items())
    return one.keys() == other.keys() and all(None in pair or pair[0] == pair[1] for pair in pairs)


def most_images(loader: Any) -> int | None:
    """The images to which ``num_batch_per_epoch`` limits a loader's pass over its data; None for all."""
    batches = loader.get('num_batch_per_epoch')
    sampler = loader.get('batch_sampler') or {}
    size = loader.get('batch_size') or sampler.get('batch_size', 1)
    return batches and batches * size * get_world_size()


def _indexed(dataset: Any) -> int | None:
    """The images to which ``indices`` limits a data set built with ``lazy_init``; None for all."""
    indices = getattr(dataset, '_indices', None)
    return abs(indices) if isinstance(indices, int) else indices and len(set(indices))


def _incomparable(content: dict, kept: list[tuple[dict, dict]]) -> Iterator[Finding]:
    """Errors for what panopticapi would divide by zero with: it counts things and stuff that are there."""
    is_thing = {entry['id']: bool(entry['isthing']) for entry in content['categories']}
    there = {is_thing[entry['category_id']] for entry, _ in kept if not entry.get('iscrowd')}
    for name, value in (('thing', True), ('stuff', False)):
        if value not in there:
            what = f'no {name} is there to compare with, which the panoptic quality needs'
            yield Finding(ERROR, 'annotations', what)


def _stuff_is_no_crowd(content: dict) -> dict:
    """A panoptic file as one of objects that say ``is_thing``; mmdet ignores ``iscrowd`` of stuff."""
    things = {entry['id'] for entry in content['categories'] if entry['isthing']}
    entries = [{**entry, 'is_thing': entry['category_id'] in things} for entry in segments(content)]
    for entry in entries:
        entry['iscrowd'] = entry['is_thing'] and entry.get('iscrowd', 0)
    return {**content, 'annotations': entries}


def _wrong_outline(entry: dict, image: dict, reader: str) -> Finding | None:
    """What is wrong with the outline of an object, which ``reader`` needs."""
    outline, where = entry.get('segmentation'), f'id {entry["id"]}'
    if not outline:
        return Finding(ERROR, 'masks', f"no 'segmentation', which {reader} needs", where)
    problem = outline_error(outline, image)
    if problem is None:
        return None
    return Finding(ERROR, 'masks', problem[0], f'{where}: `segmentation`: {problem[1]}')
