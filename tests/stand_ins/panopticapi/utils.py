"""Numbers of segments as colours, the least byte in red."""

from __future__ import annotations

import numpy as np


def rgb2id(colours: np.ndarray) -> np.ndarray:
    red, green, blue = (colours[..., channel].astype(np.int32) for channel in range(3))
    return red + 256 * green + 256**2 * blue


def id2rgb(numbers: np.ndarray) -> np.ndarray:
    return np.stack([numbers >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)
