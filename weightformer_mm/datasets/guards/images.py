"""Errors about an unusable image or label image name its path, in whichever process loads it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ...errors import UserError


def image_problem(path: str) -> str | None:
    """Why an image file cannot be read; None if it can, or if it is not on disk."""
    if '://' in path:
        return None
    if _is_no_file(path):
        return 'a folder' if os.path.isdir(path) else 'neither a file nor a folder'
    try:
        data = Path(path).read_bytes()
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except OSError as error:
        return error.strerror
    except cv2.error as error:
        # too many pixels: Failed to allocate ..., or pixels <= CV_IO_MAX_...
        return f'OpenCV cannot read it: {error.err}'
    if image is None:
        return 'not an image, or damaged'
    return 'damaged: the file ends before the image does' if cut_off(path) else None


def _is_no_file(path: str) -> bool:
    """Whether something else is there: a folder, or a pipe, whose end a reader would wait for."""
    return not os.path.isfile(path) and os.path.exists(path)


def deep_pixels(path: str, loaded: np.ndarray | None) -> tuple[str, bool] | None:
    """Of an image file whose values are more than bytes: a note about it, and whether loading loses some.

    None for other files. ``loaded`` is what a pipeline makes of the file, None if nothing.
    """
    if not path.lower().endswith(_DEEP_SUFFIXES) or not os.path.isfile(path) or _is_plain_png(path):
        return None
    stored = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype == np.uint8:
        return None
    kept = (
        loaded is not None and loaded.dtype != np.uint8 and not loaded.max() <= 255 < stored.max()
    )
    if kept:
        return f'{stored.dtype} pixels; mean and std of the data preprocessor must suit them', False
    advice = "color_type='unchanged' of the loading transform keeps them"
    return f'{stored.dtype} pixels, which loading makes 8 bits or cannot read; {advice}', True


def cut_off(path: str) -> bool:
    """Whether a JPEG file ends before its image does; older versions of OpenCV fill the rest with grey.

    False for a file that is not on disk: one of mmengine's backends (petrel, lmdb) may have that path.
    """
    if not path.lower().endswith(('.jpg', '.jpeg')) or not os.path.isfile(path):
        return False
    with open(path, 'rb') as file:
        file.seek(max(file.seek(0, os.SEEK_END) - 2, 0))
        # nearly all files end so; others may have something after the image
        if file.read() == b'\xff\xd9':
            return False
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, Image.DecompressionBombError) as error:
        return isinstance(error, OSError)  # otherwise Pillow did not look
    return False


def _is_plain_png(path: str) -> bool:
    """Whether the header of a file, which need not be decoded, says PNG with at most 8 bits per value."""
    with open(path, 'rb') as file:
        header = file.read(25)
    return header.startswith(b'\x89PNG') and header[24:] <= b'\x08'


_DEEP_SUFFIXES = ('.pgm', '.png', '.ppm', '.tif', '.tiff')
_PLAIN_MODES = ('1', 'L', 'P')  # of Pillow: one byte per pixel


@dataclass(frozen=True)
class LabelRange:
    """The labels of a segmentation data set once they are loaded.

    Attributes:
        classes: number of classes; labels run from 0 to ``classes - 1``.
        ignore: the label of pixels that do not count.
        shifted: whether loading subtracts one (``reduce_zero_label``), for the message.
    """

    classes: int
    ignore: int = 255
    shifted: bool = False

    @classmethod
    def of(cls, dataset: Any) -> LabelRange | None:
        """The range of one of mmseg's data sets; None for other data sets, or without class names."""
        shifted = getattr(dataset, 'reduce_zero_label', None)
        classes = None if shifted is None else dataset.metainfo.get('classes')
        return (
            cls(len(classes), getattr(dataset, 'ignore_index', 255), shifted) if classes else None
        )

    def problem(self, labels: np.ndarray, image_shape: tuple[int, ...] | None) -> str | None:
        """What is wrong with labels, ``(H, W)`` integers, of an image of this shape; None if nothing."""
        if labels.ndim != 2:
            return f'a picture of shape {labels.shape}; a label image has one channel, the class numbers'
        size, of_image = labels.shape, tuple(image_shape or labels.shape)[:2]
        if size != of_image:
            sizes = [f'{width}x{height}' for height, width in (size, of_image)]
            return f'the label image has {sizes[0]} pixels, its image has {sizes[1]}'
        found, shift = np.flatnonzero(histogram(labels)), int(self.shifted)
        wrong = found[(found >= self.classes) & (found != self.ignore)] + shift
        if not wrong.size:
            return None
        shown = ', '.join(map(str, wrong[:5])) + (', ...' if wrong.size > 5 else '')
        return (
            f'label {shown} is no class: {self.classes} classes are numbered from {shift} to '
            f'{self.classes - 1 + shift}{" (reduce_zero_label: 0 is ignored)" if shift else ""}; '
            f'{self.ignore} is ignored'
        )

    def file_problem(self, path: str, labels: np.ndarray, image_shape: Any) -> str | None:
        """`problem` of a label image that was loaded from ``path``, or that of its kind of pixels.

        Loading silently cuts them to a byte.
        """
        if os.path.isfile(path):
            with Image.open(path) as image:
                if image.mode not in _PLAIN_MODES:
                    return f'pixels of mode {image.mode}; a label image has one byte per pixel, its class'
        return self.problem(labels, image_shape)

    def present(self, labels: np.ndarray) -> list[int]:
        """The classes of labels that are ``(H, W)``."""
        return (
            np.flatnonzero(histogram(labels)[: self.classes]).tolist() if labels.ndim == 2 else []
        )


def size_problem(shape: tuple[int, ...], stated: dict) -> tuple[str, str] | None:
    """How an image of ``shape``, rows first, differs from the ``height`` and ``width`` of its annotation."""
    size, found = (stated['height'], stated['width']), tuple(shape[:2])
    if found == size:
        return None
    turned = ' (turned by its EXIF orientation?)' if found == size[::-1] else ''
    sizes = f'is {found[1]}x{found[0]}, not {size[1]}x{size[0]}{turned}'
    return 'of another size than the file states', sizes


def histogram(labels: np.ndarray) -> np.ndarray:
    """Number of pixels of each label, from 0; ``(256,)`` for the bytes that mmseg loads."""
    if labels.dtype == np.uint8:  # several times as fast as numpy
        return cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel()  # OpenCV 5: one axis
    return np.bincount(labels.reshape(-1).astype(np.int64))


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
        if any(map(_is_no_file, _paths(results))):
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
        if self.sized and loaded is not None:
            different = size_problem(loaded['img'].shape, loaded)
            if different is not None:
                raise UserError(f'{loaded["img_path"]}, {different[0]}: it {different[1]}')
        return loaded


def name_unreadable_images(dataset: Any) -> None:
    """Wrap the loading transforms of a data set, and of those inside it, in `NamedLoading`."""
    for inner in inner_datasets(dataset):
        transforms = getattr(getattr(inner, 'pipeline', None), 'transforms', None)
        if isinstance(transforms, list):
            labels, sized = LabelRange.of(inner), is_coco(inner)
            transforms[:] = [guard(transform, labels, sized) for transform in transforms]


def inner_datasets(dataset: Any) -> Iterator[Any]:
    """A built data set and all those inside it (RepeatDataset, ConcatDataset, ...)."""
    yield dataset
    for inner in [getattr(dataset, 'dataset', None), *getattr(dataset, 'datasets', ())]:
        if inner is not None:
            yield from inner_datasets(inner)


def innermost(dataset: Any) -> list[Any]:
    """The data sets inside a built one that wrap no other."""
    kinds = ('dataset', 'datasets')
    return [d for d in inner_datasets(dataset) if not any(hasattr(d, kind) for kind in kinds)]


def is_coco(dataset: Any) -> bool:
    """Whether a built data set of mmdet reads objects from a file in COCO's format."""
    return hasattr(type(dataset), 'COCOAPI') and 'Panoptic' not in type(dataset).__name__


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
        if problem is not None:
            raise UserError(f'cannot read the image {path}: {problem}') from error


def _paths(results: dict) -> list[str]:
    return [v for k, v in results.items() if k.endswith('_path') and isinstance(v, str)]
