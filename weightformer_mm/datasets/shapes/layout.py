"""Which object is where: the composition of one picture, independent of its resolution."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from .classes import CLASSES
from .outlines import ObjectSpec, coverage, place

MIN_SIZE = 1 / 14  # greatest extent, relative to the picture's side
MAX_SIZE = 8 / 14
MIN_OBJECTS, MAX_OBJECTS = 2, 6
SINGLE_SIZES = (0.5, 0.85)  # of the object in a picture with only one
SINGLE_OFFSET = 0.08  # greatest distance of its centre from the picture's, along each axis
MIN_BACKGROUND = 0.35  # share of the picture that stays free of objects
OVERLAP_WISH = 0.6  # probability that an object is put next to or onto an earlier one

_GRID = 256  # side of the raster on which visibility is judged
_MARGIN = 0.01
_TRIES_PER_SIZE = 12
_SIZES_PER_OBJECT = 6


def visible_floor(size: float) -> float:
    """Least share of an object's area that must stay visible: larger for smaller objects."""
    return float(np.interp(size / MIN_SIZE, [1, 3], [0.9, 0.65]))


class Canvas:
    """The objects placed so far, and the part of each that is still visible."""

    def __init__(self) -> None:
        self.specs: list[ObjectSpec] = []
        self.areas: list[int] = []
        self.visible: list[np.ndarray] = []

    def try_add(self, spec: ObjectSpec) -> bool:
        parts = place(spec, _GRID)
        if parts[0].min() < _MARGIN * _GRID or parts[0].max() > (1 - _MARGIN) * _GRID:
            return False
        mask = np.zeros((_GRID, _GRID), bool)
        window, share = coverage(parts, _GRID)
        mask[window] = share >= 0.5
        remaining = [seen & ~mask for seen in self.visible]
        *counts, new = (np.count_nonzero(seen) for seen in (*remaining, mask))
        for earlier, area, count in zip(self.specs, self.areas, counts):
            if count < visible_floor(earlier.size) * area:
                return False
        if sum(counts) + new > (1 - MIN_BACKGROUND) * mask.size:
            return False
        self.specs.append(spec)
        self.areas.append(new)
        self.visible = [*remaining, mask]
        return True


def _draw_center(rng: Generator, size: float, placed: list[ObjectSpec]) -> tuple[float, float]:
    if placed and rng.random() < OVERLAP_WISH:
        anchor = placed[rng.integers(len(placed))]
        reach = rng.uniform(0.5, 1.0) * (anchor.size + size) / 2
        angle = rng.uniform(0, 2 * np.pi)
        x, y = anchor.center
        return float(x + reach * np.cos(angle)), float(y + reach * np.sin(angle))
    return tuple(rng.uniform(size / 2, 1 - size / 2, 2).tolist())


def _add_object(rng: Generator, canvas: Canvas) -> None:
    kind = CLASSES[rng.integers(len(CLASSES))]
    for _ in range(_SIZES_PER_OBJECT):
        size = float(np.exp(rng.uniform(np.log(MIN_SIZE), np.log(MAX_SIZE))))
        for _ in range(_TRIES_PER_SIZE):
            center = _draw_center(rng, size, canvas.specs)
            if canvas.try_add(ObjectSpec(kind, center, size, rng.uniform(0, 2 * np.pi))):
                return


def draw_layout(rng: Generator) -> tuple[ObjectSpec, ...]:
    """Two to six objects from back to front, each inside the picture and clearly visible."""
    while True:
        canvas = Canvas()
        for _ in range(rng.integers(MIN_OBJECTS, MAX_OBJECTS + 1)):
            _add_object(rng, canvas)
        if len(canvas.specs) >= MIN_OBJECTS:
            return tuple(canvas.specs)


def draw_single(rng: Generator) -> tuple[ObjectSpec]:
    """One large object near the middle, entirely inside the picture."""
    kind = CLASSES[rng.integers(len(CLASSES))]
    while True:
        size = rng.uniform(*SINGLE_SIZES)
        center = tuple((0.5 + rng.uniform(-SINGLE_OFFSET, SINGLE_OFFSET, 2)).tolist())
        spec = ObjectSpec(kind, center, size, rng.uniform(0, 2 * np.pi))
        if Canvas().try_add(spec):
            return (spec,)
