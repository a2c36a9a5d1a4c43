"""The rules for data sets, applied before a training or an evaluation begins: the first error ends it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

from mmengine.dataset import BaseDataset

from ...config.read import innermost_datasets
from ...errors import UserError
from ...utils.patches import replaced
from ..checks.classes import build_unloaded
from ..checks.coco import annotation_file
from ..checks.coco_fields import FILE, OBJECTS, SEGMENTS, field_findings, read_coco
from ..checks.coco_uses import Evaluation, Reading, is_coco, most_images
from ..checks.images import is_unlabelled
from ..checks.listed import class_findings
from ..checks.report import ERROR, Finding
from ..checks.wrappers import innermost

Uses = Mapping[str, Sequence[Any]]  # of each annotation file, by its real path


def readings(dataset: Any) -> Uses:
    """How the data sets of a loader, given by its data set's config, read their COCO files."""
    nodes = [build_unloaded(node) for _, node in innermost_datasets(dataset, '')]
    uses: dict[str, list[Any]] = {}
    for node in nodes:
        if is_coco(node):
            uses.setdefault(annotation_file(node), []).append(Reading.of(node, len(nodes) == 1))
    return uses


def evaluations(loader: Any, evaluators: Sequence[Any]) -> Uses:
    """How evaluators read their COCO files; all are given by their configs."""
    nodes = [build_unloaded(node) for _, node in innermost_datasets(loader.get('dataset'), '')]
    nodes = list(filter(is_coco, nodes))
    uses: dict[str, list[Any]] = {}
    for evaluator in evaluators if nodes else ():
        use = Evaluation.of(evaluator, nodes, most_images(loader))
        if use is not None:
            uses.setdefault(os.path.realpath(evaluator['ann_file']), []).append(use)
    return uses


def refuse_first(
    findings: Iterator[Finding], path: str = '', kind: type[UserError] = UserError
) -> None:
    """Raise an error of this kind for the first among the findings, which are about the file ``path``."""
    for level, check, what, where in findings:
        if level == ERROR:
            place = ': '.join(filter(None, (path, '' if check == FILE else check)))
            parts = ': '.join(filter(None, (place, what, where)))
            raise kind(f'{parts}; tools/check_dataset.py lists what is wrong')


@contextmanager
def checked_coco_files(uses: Uses, others: bool = True) -> Iterator[None]:
    """Inside, each file that pycocotools reads is checked before it is indexed, without parsing it twice.

    Args:
        uses: what `readings` or `evaluations` return.
        others: check the fields of files that are not among the ``uses`` as well: copies of remote ones.

    A UserError names a file with an error, or that is not JSON.
    """
    try:
        from pycocotools.coco import COCO
    except ImportError:  # a classifier or a segmentor does not need it
        yield
        return
    init = COCO.__init__

    def checked_init(self: Any, annotation_file: Any = None) -> None:
        init(self)
        if annotation_file is None:
            return
        path = str(annotation_file)
        known = uses.get(os.path.realpath(path), ())
        self.dataset = read_coco(path)
        names = ' '.join(kind.__name__ for kind in type(self).__mro__)
        fields = SEGMENTS if 'Panoptic' in names else OBJECTS
        if known or others:
            for use in known or [None]:
                unneeded = use.unneeded() if use else ()
                refuse_first(field_findings(self.dataset, fields, unneeded), path)
            refuse_first(chain.from_iterable(use.findings(self.dataset) for use in known), path)
        self.createIndex()

    with replaced(COCO, __init__=checked_init):
        yield


def check_categories(dataset: Any) -> None:
    """Refuse a built COCO data set if some of its classes are not categories of its annotation file.

    mmdet numbers the categories that it finds: every class after a missing one would get a wrong number.
    The rules find this in every file that pycocotools reads; LVIS has a reader of its own.
    """
    for inner in innermost(dataset):
        if is_unlabelled(inner):
            continue
        classes = (getattr(inner, 'metainfo', None) or {}).get('classes') or ()
        found = getattr(inner, 'cat_ids', classes)
        if len(found) != len(classes):
            raise UserError(
                f'{inner.ann_file} has {len(found)} of the {len(classes)} classes of '
                f'{type(inner).__name__} as categories; set metainfo=dict(classes=...) to the names in '
                'the file'
            )


def check_numbers(dataset: Any) -> None:
    """Refuse a built data set that lists an image, of a classifier, of a class that it does not have."""
    for inner in innermost(dataset):
        if isinstance(inner, BaseDataset) and len(inner) and 'gt_label' in inner.get_data_info(0):
            items = map(inner.get_data_info, range(len(inner)))
            refuse_first(class_findings(inner, items), getattr(inner, 'ann_file', ''))
