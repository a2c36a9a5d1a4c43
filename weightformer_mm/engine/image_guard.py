"""A picture that cannot be read is named with its path, whichever decoder met it and in whichever process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .errors import UserError


def image_problem(path: str) -> str | None:
    """Why an image file cannot be read; None where it can be, or is not on disk but elsewhere."""
    if '://' in path:
        return None
    file = Path(path)
    if not file.is_file():
        return 'no such file'
    data = file.read_bytes()
    if not data:
        return 'the file is empty'
    if cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) is None:
        return 'not an image, or damaged'
    return None


class NamedLoading:
    """A loading transform of mmcv, mmdet or mmseg whose failures name the file.

    The libraries raise an AssertionError, cv2.error, OSError or AttributeError, most of them without a path.
    """

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def __call__(self, results: dict) -> Any:
        try:
            return self.transform(results)
        except Exception as error:
            paths = [v for k, v in results.items() if k.endswith('_path') and isinstance(v, str)]
            for path in paths:
                problem = image_problem(path)
                if problem is not None:
                    raise UserError(f'cannot read the image {path}: {problem}') from error
            raise

    def __repr__(self) -> str:
        return repr(self.transform)


def name_unreadable_images(dataset: Any) -> None:
    """Put :class:`NamedLoading` around the loading transforms of a data set and of those inside it."""
    for inner in [getattr(dataset, 'dataset', None), *getattr(dataset, 'datasets', ())]:
        if inner is not None:
            name_unreadable_images(inner)
    pipeline = getattr(dataset, 'pipeline', None)
    transforms = getattr(pipeline, 'transforms', None)
    if isinstance(transforms, list):
        transforms[:] = [guard(transform) for transform in transforms]


def guard(transform: Any) -> Any:
    """``transform`` itself, or :class:`NamedLoading` around it if it loads files."""
    return NamedLoading(transform) if type(transform).__name__.startswith('Load') else transform
