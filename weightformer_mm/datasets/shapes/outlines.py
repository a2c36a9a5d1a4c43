"""Outlines of the kinds of objects: closed contours, and their rasters."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

SUPERSAMPLING = 4  # sub-pixels per pixel side when coverage is measured
_SUBPIXEL_BITS = 6  # fractional bits of the vertices handed to OpenCV


@dataclass(frozen=True)
class ObjectSpec:
    """One object. Lengths are relative to the picture's side; later objects hide earlier ones."""

    kind: str
    center: tuple[float, float]
    size: float
    angle: float


def _radial(radii: np.ndarray) -> np.ndarray:
    angles = 2 * np.pi * np.arange(len(radii)) / len(radii)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _cross(arm: float) -> np.ndarray:
    """Plus sign with arms of length 1 and half-width ``arm``; y is x a quarter turn later."""
    x = np.array([1, 1, arm, arm, -arm, -arm, -1, -1, -arm, -arm, arm, arm])
    return np.stack([x, np.roll(x, 3)], axis=1)


def _scaled(*parts: np.ndarray) -> tuple[np.ndarray, ...]:
    """Contours whose greatest extent, the distance of the two points furthest apart, is 1."""
    extent = np.linalg.norm(parts[0][:, None] - parts[0][None], axis=-1).max()
    return tuple(part / extent for part in parts)


# Contours of each kind, (N, 2), as x, y around the origin; the second one is a hole.
_CONTOURS = {
    'disk': _scaled(_radial(np.ones(96))),
    'ring': _scaled(_radial(np.ones(96)), _radial(np.full(96, 0.54))),
    'triangle': _scaled(_radial(np.ones(3))),
    'square': _scaled(_radial(np.ones(4))),
    'star': _scaled(_radial(np.tile([1.0, 0.42], 5))),
    'cross': _scaled(_cross(0.3)),
}


def place(spec: ObjectSpec, size: int) -> tuple[np.ndarray, ...]:
    """Contours of an object in a picture of ``size`` x ``size`` pixels, each ``(N, 2)`` in pixels."""
    cos, sin = np.cos(spec.angle), np.sin(spec.angle)
    rotation, contours = np.array([(cos, -sin), (sin, cos)]), _CONTOURS[spec.kind]
    return tuple((part @ rotation.T * spec.size + spec.center) * size for part in contours)


def coverage(parts: tuple[np.ndarray, ...], size: int) -> tuple[tuple[slice, slice], np.ndarray]:
    """Share of each pixel that is inside the contours, for the window of the picture that they touch.

    Args:
        parts: contours in pixels; pixel ``(x, y)`` spans ``[x, x + 1) x [y, y + 1)``.
        size: side of the picture in pixels.

    Returns:
        Rows and columns of the window, and float32 ``(height, width)`` in 0..1.
    """
    left, top = np.maximum(np.floor(parts[0].min(axis=0)).astype(int), 0)
    right, bottom = np.minimum(np.ceil(parts[0].max(axis=0)).astype(int), size)
    fine = np.zeros(((bottom - top) * SUPERSAMPLING, (right - left) * SUPERSAMPLING), np.uint8)
    # OpenCV puts integer coordinates on pixel centres, hence the half.
    scaled = [
        ((part - (left, top)) * SUPERSAMPLING - 0.5) * (1 << _SUBPIXEL_BITS) for part in parts
    ]
    vertices = [np.round(part).astype(np.int32) for part in scaled]
    cv2.fillPoly(fine, vertices, 255, lineType=cv2.LINE_8, shift=_SUBPIXEL_BITS)
    # the means of blocks are exact, and NumPy takes seven times as long for them
    size_of_window = (right - left, bottom - top)
    share = cv2.resize(fine.astype(np.float32), size_of_window, interpolation=cv2.INTER_AREA)
    return np.s_[top:bottom, left:right], share / np.float32(255)
