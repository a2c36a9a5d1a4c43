"""Errors about an unusable image or label image name its path, in whichever process loads it."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from ...errors import UserError
from .labels import LabelRange
from .pixels import cut_off, deep_pixels, image_problem, is_no_file, size_problem


class NamedLoading:
    """A loading transform of mmcv, mmdet or mmseg whose failures name the file.

    The libraries raise an AssertionError, cv2.error, OSError or AttributeError, mostly without a path.
    ``labels`` is what the label image may hold, if the transform loads one. With ``sized``, an image must
    have the size that its annotation states.
    """

    def __init__(
        self, transform: Any, labels: LabelRange | None = None, sized: bool = False
    ) -> None:
        self.transform = transform
        self.labels = labels
        self.sized = sized

    def __call__(self, results: dict) -> Any:
        if any(map(is_no_file, _paths(results))):
            _refuse_unreadable(results, None)
        try:
            loaded = self.transform(results)
        except Exception as error:
            _refuse_unreadable(results, error)
            raise
        if any(map(cut_off, _paths(results))):
            _refuse_unreadable(results, None)
        if self.labels is not None and loaded is not None and 'gt_seg_map' in loaded:
            path = str(loaded.get('seg_map_path'))
            problem = self.labels.file_problem(path, loaded['gt_seg_map'], loaded.get('ori_shape'))
            if problem is not None:
                raise UserError(f'{path}: {problem}')
        image = None if loaded is None else loaded.get('img')
        if (
            getattr(image, 'dtype', None) in (np.float32, np.float64)
            and not np.isfinite(image).all()
        ):
            raise UserError(f'{loaded.get("img_path")}: some pixels are not finite numbers')
        if self.sized and loaded is not None:
            different = size_problem(loaded['img'].shape, loaded)
            if different is not None:
                raise UserError(f'{loaded["img_path"]}, {different[0]}: it {different[1]}')
        return loaded


def guard(transform: Any, labels: LabelRange | None = None, sized: bool = False) -> Any:
    """``transform`` itself, wrapped in `NamedLoading` if it loads files."""
    kind = type(transform).__name__
    if not kind.startswith('Load'):
        return transform
    labels = labels if getattr(transform, 'with_seg', False) else None
    return NamedLoading(transform, labels, sized and kind.startswith('LoadImage'))


def _refuse_unreadable(results: dict, error: Exception | None) -> None:
    for path in _paths(results):
        problem = image_problem(path)
        if problem is None and error is not None and path == results.get('img_path'):
            problem = (deep_pixels(path, None) or (None,))[0]
        if problem is None and error is not None and path == results.get('seg_map_path'):
            problem = _label_problem(path, results.get('ori_shape'))
        if problem is not None:
            raise UserError(f'cannot read the image {path}: {problem}') from error


def _label_problem(path: str, size: tuple[int, int] | None) -> str | None:
    """How the size of a label image differs from that of its image; None if it does not."""
    try:
        with Image.open(path) as labels:
            shape = labels.size[::-1]
    except (OSError, ValueError, Image.DecompressionBombError):  # Pillow cannot read it
        return None
    different = None if size is None else size_problem(shape, dict(zip(('height', 'width'), size)))
    return None if different is None else f'it {different[1]}, as its image is'


def _paths(results: dict) -> list[str]:
    return [v for k, v in results.items() if k.endswith('_path') and isinstance(v, str)]
