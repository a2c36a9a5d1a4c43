"""An annotation file that would be read wrongly is refused while it is read, by its name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ...errors import UserError
from ...utils.patches import replaced
from ..rules.coco import Problem, fatal_problems
from .images import inner_datasets


@contextmanager
def checked_coco_files(
    problems: Callable[[Any], Iterator[Problem]] = fatal_problems,
) -> Iterator[None]:
    """Inside, each file that pycocotools reads is checked before it is indexed, without parsing it twice.

    Args:
        problems: finds what is wrong in parsed JSON; by default all that makes a training fail.

    Raises:
        UserError: the file is not JSON, or there is a problem; names the file.
    """
    try:
        from pycocotools.coco import COCO
    except ImportError:  # a classifier or a segmentor does not need it
        yield
        return
    init, create_index = COCO.__init__, COCO.createIndex

    def named_init(self: Any, annotation_file: Any = None) -> None:
        self._annotation_file = annotation_file
        try:
            init(self, annotation_file)
        except json.JSONDecodeError as error:
            raise UserError(f'{annotation_file} is not valid JSON: {error}') from error

    def checked_index(self: Any) -> None:
        path = getattr(self, '_annotation_file', None)
        problem = next(problems(self.dataset), None) if path else None
        if problem is not None:
            more = '; tools/check_dataset.py lists all that is wrong'
            advice = more if problems is fatal_problems else ''
            raise UserError(f'{path}: {problem.what}: {problem.where}{advice}')
        create_index(self)

    with replaced(COCO, __init__=named_init, createIndex=checked_index):
        yield


def check_categories(dataset: Any) -> None:
    """Refuse a built COCO data set if some of its classes are not categories of its annotation file.

    mmdet numbers the categories that it finds: every class after the missing one would get another number.

    Raises:
        UserError: names the annotation file.
    """
    for inner in inner_datasets(dataset):
        classes = (getattr(inner, 'metainfo', None) or {}).get('classes')
        found = getattr(inner, 'cat_ids', None)
        if classes and found is not None and not isinstance(classes, str):
            if len(found) != len(classes):
                raise UserError(
                    f'{inner.ann_file} has {len(found)} of the {len(classes)} classes of '
                    f'{type(inner).__name__} as categories; set metainfo=dict(classes=...) to the names '
                    'in the file'
                )
