"""An image or label image that cannot be used is named with its path, in whichever process it is loaded."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ...errors import UserError
from ..rules.labels import LabelRange


def image_problem(path: str) -> str | None:
    """Why an image file cannot be read; None where it can be, or is not on disk but elsewhere."""
    if '://' in path:
        return None
    if not os.path.isfile(path):
        return 'no such file'
    try:
        data = Path(path).read_bytes()
        if not data:
            return 'the file is empty'
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except OSError as error:
        return error.strerror
    except cv2.error as error:  # among others: Failed to allocate ... bytes
        too_large = 'CV_IO_MAX_IMAGE' in str(error)
        why = 'more pixels than OpenCV reads'
        return why if too_large else f'OpenCV cannot read it: {error.err}'
    if image is None:
        return 'not an image, or damaged'
    if ends_early(path) and _truncated(data):
        return 'damaged: the file ends before the image does'
    return None


def ends_early(path: str) -> bool:
    """Whether a JPEG file does not end as it should. Older OpenCV fills the rest of such an image with grey.

    Two bytes are read. True as well for a whole image with something behind it. False for a file that is not
    on disk: a backend of mmengine (petrel, lmdb) may have it under a path that looks like one.
    """
    if not path.lower().endswith(('.jpg', '.jpeg')) or not os.path.isfile(path):
        return False
    with open(path, 'rb') as file:
        file.seek(max(file.seek(0, os.SEEK_END) - 2, 0))
        return file.read() != b'\xff\xd9'


class NamedLoading:
    """A loading transform of mmcv, mmdet or mmseg whose failures name the file.

    The libraries raise an AssertionError, cv2.error, OSError or AttributeError, most of them without a path.

    Args:
        transform: the transform.
        labels: what the label image may hold, where the transform loads one.
    """

    def __init__(self, transform: Any, labels: LabelRange | None = None) -> None:
        self.transform = transform
        self.labels = labels

    def __call__(self, results: dict) -> Any:
        try:
            loaded = self.transform(results)
        except Exception as error:
            self._name(results, error)
            raise
        if any(ends_early(path) for path in _paths(results)):
            self._name(results, None)
        labels = None if loaded is None or self.labels is None else loaded.get('gt_seg_map')
        if labels is not None:
            problem = self.labels.problem(labels, loaded.get('ori_shape'))
            if problem is not None:
                raise UserError(f'{loaded.get("seg_map_path")}: {problem}')
        return loaded

    def __repr__(self) -> str:
        return repr(self.transform)

    @staticmethod
    def _name(results: dict, error: Exception | None) -> None:
        for path in _paths(results):
            problem = image_problem(path)
            if problem is not None:
                raise UserError(f'cannot read the image {path}: {problem}') from error


def name_unreadable_images(dataset: Any) -> None:
    """Put :class:`NamedLoading` around the loading transforms of a data set and of those inside it."""
    for inner in inner_datasets(dataset):
        transforms = getattr(getattr(inner, 'pipeline', None), 'transforms', None)
        if isinstance(transforms, list):
            labels = LabelRange.of(inner)
            transforms[:] = [guard(transform, labels) for transform in transforms]


def inner_datasets(dataset: Any) -> Iterator[Any]:
    """A built data set and all those inside it (RepeatDataset, ConcatDataset, ...)."""
    yield dataset
    for inner in [getattr(dataset, 'dataset', None), *getattr(dataset, 'datasets', ())]:
        if inner is not None:
            yield from inner_datasets(inner)


def guard(transform: Any, labels: LabelRange | None = None) -> Any:
    """``transform`` itself, or :class:`NamedLoading` around it if it loads files."""
    if not type(transform).__name__.startswith('Load'):
        return transform
    loads_labels = getattr(transform, 'with_seg', False)
    return NamedLoading(transform, labels if loads_labels else None)


def _paths(results: dict) -> list[str]:
    return [v for k, v in results.items() if k.endswith('_path') and isinstance(v, str)]


def _truncated(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except OSError:
        return True
    except Image.DecompressionBombError:  # it did not look
        pass
    return False
