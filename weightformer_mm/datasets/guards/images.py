"""A picture that cannot be read is named with its path, whichever decoder met it and in whichever process."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ...errors import UserError
from .labels import LabelRange

_JPEG = ('.jpg', '.jpeg')
_END_OF_JPEG = b'\xff\xd9'


def image_problem(path: str) -> str | None:
    """Why an image file cannot be read; None where it can be, or is not on disk but elsewhere."""
    if '://' in path:
        return None
    file = Path(path)
    if not file.is_file():
        return 'no such file'
    try:
        data = file.read_bytes()
        if not data:
            return 'the file is empty'
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except OSError as error:
        return error.strerror
    except MemoryError:
        return 'larger than the memory'
    except cv2.error as error:
        if 'CV_IO_MAX_IMAGE' in str(error):
            return 'more pixels than OpenCV reads'
        return f'OpenCV cannot read it: {error.err}'  # among others: Failed to allocate ... bytes
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
    if not path.lower().endswith(_JPEG) or not os.path.isfile(path):
        return False
    with open(path, 'rb') as file:
        if file.seek(0, os.SEEK_END) < len(_END_OF_JPEG):
            return True
        file.seek(-len(_END_OF_JPEG), os.SEEK_END)
        return file.read() != _END_OF_JPEG


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
        if self.labels is not None and loaded is not None:
            self.labels.check(loaded)
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
    for inner in [getattr(dataset, 'dataset', None), *getattr(dataset, 'datasets', ())]:
        if inner is not None:
            name_unreadable_images(inner)
    pipeline = getattr(dataset, 'pipeline', None)
    transforms = getattr(pipeline, 'transforms', None)
    if isinstance(transforms, list):
        labels = LabelRange.of(dataset)
        transforms[:] = [guard(transform, labels) for transform in transforms]


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
        return False
    return False
