"""Outlines of the kinds of objects: closed contours, and their rasters."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

SUPERSAMPLING = 4  # sub-pixels per pixel side when coverage is measured
_SUBPIXEL_BITS = 6  # fractional bits of the vertices handed to OpenCV


def _circle(radius: float, points: int = 96) -> np.ndarray:
    return _radial(np.full(points, radius))


def _radial(radii: np.ndarray) -> np.ndarray:
    angles = 2 * np.pi * np.arange(len(radii)) / len(radii)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _cross(arm: float) -> np.ndarray:
    """Plus sign with arms of length 1 and of half width ``arm``."""
    quarter = np.array([(1.0, -arm), (1.0, arm), (arm, arm)])
    turn = np.array([(0.0, -1.0), (1.0, 0.0)])
    parts = [quarter]
    for _ in range(3):
        parts.append(parts[-1] @ turn.T)
    return np.concatenate(parts)


_CONTOURS = {
    'disk': lambda: [_circle(1.0)],
    'ring': lambda: [_circle(1.0), _circle(0.54)],
    'triangle': lambda: [_radial(np.ones(3))],
    'square': lambda: [_radial(np.ones(4))],
    'star': lambda: [_radial(np.tile([1.0, 0.42], 5))],
    'cross': lambda: [_cross(0.3)],
}


@cache
def contours(kind: str) -> tuple[np.ndarray, ...]:
    """Contours of a kind, each ``(N, 2)`` as x, y, around the origin.

    The greatest extent, the distance of the two points furthest apart, is 1. A second contour is a hole.
    """
    parts = _CONTOURS[kind]()
    extent = np.linalg.norm(parts[0][:, None] - parts[0][None], axis=-1).max()
    return tuple(part / extent for part in parts)


def place(
    kind: str, center: tuple[float, float], size: float, angle: float
) -> tuple[np.ndarray, ...]:
    """Contours of a kind turned by ``angle`` (radians), scaled by ``size``, then moved."""
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([(cos, -sin), (sin, cos)])
    return tuple(part @ rotation.T * size + np.asarray(center) for part in contours(kind))


def window(parts: tuple[np.ndarray, ...], size: int) -> tuple[int, int, int, int]:
    """Left, top, width and height of the part of a ``size x size`` picture that contours touch."""
    left, top = np.maximum(np.floor(parts[0].min(axis=0)).astype(int), 0)
    right, bottom = np.minimum(np.ceil(parts[0].max(axis=0)).astype(int), size)
    return int(left), int(top), int(right - left), int(bottom - top)


def fill(mask: np.ndarray, parts: tuple[np.ndarray, ...]) -> None:
    """Set the pixels of a bool ``(size, size)`` mask that lie at least half inside the contours."""
    left, top, width, height = window(parts, len(mask))
    inside = coverage(parts, left, top, width, height) >= 0.5
    mask[top : top + height, left : left + width] |= inside


def coverage(
    parts: tuple[np.ndarray, ...], left: int, top: int, width: int, height: int
) -> np.ndarray:
    """Share of each pixel inside the contours.

    Args:
        parts: contours in pixels; pixel ``(x, y)`` spans ``[x, x + 1) x [y, y + 1)``.
        left, top, width, height: the window to fill, in pixels.

    Returns:
        float32 ``(height, width)`` in 0..1.
    """
    fine = np.zeros((height * SUPERSAMPLING, width * SUPERSAMPLING), np.uint8)
    # OpenCV puts integer coordinates on pixel centres, hence the half.
    scaled = [
        ((part - (left, top)) * SUPERSAMPLING - 0.5) * (1 << _SUBPIXEL_BITS) for part in parts
    ]
    vertices = [np.round(part).astype(np.int32) for part in scaled]
    cv2.fillPoly(fine, vertices, 255, lineType=cv2.LINE_8, shift=_SUBPIXEL_BITS)
    blocks = fine.reshape(height, SUPERSAMPLING, width, SUPERSAMPLING)
    return blocks.mean(axis=(1, 3), dtype=np.float32) / np.float32(255)
