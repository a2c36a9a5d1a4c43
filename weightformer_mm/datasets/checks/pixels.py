"""Image files: can they be read, and does what is read have the depth and size that it should have?"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

_DEEP_SUFFIXES = ('.pgm', '.png', '.ppm', '.tif', '.tiff')


def image_problem(path: str) -> str | None:
    """Why an image file cannot be read; None if it can, or if it is not on disk."""
    if '://' in path:
        return None
    if is_no_file(path):
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
        return _unknown_kind(path) or 'not an image, or damaged'
    return 'damaged: the file ends before the image does' if cut_off(path) else None


def _unknown_kind(path: str) -> str | None:
    """What a sound image is that OpenCV cannot read; None if Pillow cannot read it either."""
    try:
        with Image.open(path) as image:
            image.load()
            return (
                f'{image.format} of mode {image.mode}, which OpenCV cannot read: convert it, or set '
                "imdecode_backend='pillow' or 'tifffile' of the loading transform"
            )
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def is_no_file(path: str) -> bool:
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


def size_problem(shape: tuple[int, ...], stated: dict) -> tuple[str, str] | None:
    """How an image of ``shape``, rows first, differs from the ``height`` and ``width`` of its annotation."""
    size, found = (stated['height'], stated['width']), tuple(shape[:2])
    if found == size:
        return None
    turned = ' (turned by its EXIF orientation?)' if found == size[::-1] else ''
    sizes = f'is {found[1]}x{found[0]}, not {size[1]}x{size[0]}{turned}'
    return 'of another size than the file states', sizes
