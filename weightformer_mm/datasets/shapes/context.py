"""ContextShapes: an object's class depends on a cue that no local network can see from the object.

A picture has a reddish or a bluish mark at one of its four sides, and its objects lie near the opposite
side. The class of an object combines its shape and the colour of the mark; nothing else tells the colour.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from ...errors import UserError
from .classes import CONTEXT_KINDS, CUES
from .layout import Canvas
from .outlines import ObjectSpec
from .paint import Paint, octave_noise

# Reach of the micro pyramid with static strategies, stages 0 and 1 and a 1x1 head on both;
# projects/context/reach.py computes it from the network.
STATIC_REACH = 56
BAND_SHARES = (0.15, 0.20)  # of the picture's area
MAX_CUE_AREA = 0.02  # a square of it fits into the thinnest band
MIN_MARK = 2  # side in pixels
MIN_ROOM = 24  # pixels between the reach of the band and the far side, for the objects
MAX_OBJECTS = 3
OBJECT_SIZES = (0.6, 0.95)  # greatest extent, relative to the room
MAX_SIZE = 0.4  # greatest extent, relative to the picture's side
_TRIES = 24  # to place an object

_HUES = {'red': (-15.0, 15.0), 'blue': (215.0, 245.0)}  # degrees
_SATURATION, _VALUE = (0.65, 1.0), (0.55, 1.0)


@dataclass(frozen=True)
class ContextRules:
    """How far the objects stay from the mark, and how large it is.

    Attributes:
        reach: every pixel of an object is farther than this from the mark, in pixels along the axis
            between the two.
        cue_area: a square mark's share of the picture's area; None: a band of 15 to 20 % along a side.
    """

    reach: int = STATIC_REACH
    cue_area: float | None = None

    def check(self, size: int) -> None:
        """Raise a UserError unless a picture of ``size`` x ``size`` pixels has room for mark and objects."""
        most = size - math.floor(BAND_SHARES[1] * size) - MIN_ROOM
        if not 0 <= self.reach <= most:
            raise UserError(
                f'reach must be between 0 and {most} for a band and objects in pictures of size {size}, got '
                f'{self.reach}; choose a larger size or another reach'
            )
        area = MAX_CUE_AREA if self.cue_area is None else self.cue_area
        if area > MAX_CUE_AREA or marker_side(size, max(area, 0)) < MIN_MARK:
            raise UserError(
                f'cue_area must be at least {MIN_MARK}x{MIN_MARK} pixels of a picture of size {size} and at '
                f'most {MAX_CUE_AREA} of it, got {area}'
            )


@dataclass(frozen=True)
class Mark:
    """The coloured rectangle, in pixels: ``image[top : top + height, left : left + width]``."""

    left: int
    top: int
    width: int
    height: int

    @property
    def window(self) -> tuple[slice, slice]:
        return np.s_[self.top : self.top + self.height, self.left : self.left + self.width]


def marker_side(size: int, cue_area: float) -> int:
    """Side in pixels of a square mark with this share of the picture's area."""
    return round(math.sqrt(cue_area) * size)


def draw_context(
    rng: Generator, size: int, rules: ContextRules
) -> tuple[Mark, tuple[ObjectSpec, ...]]:
    """The mark, at a random side of a picture, and the objects, at the opposite side."""
    least, most = (share * size for share in BAND_SHARES)
    depth = int(rng.integers(math.ceil(least), math.floor(most) + 1))
    mark = Mark(0, 0, size, depth)
    if rules.cue_area is not None:
        side = marker_side(size, rules.cue_area)
        left, top = rng.integers(size - side + 1), rng.integers(depth - side + 1)
        mark = Mark(int(left), int(top), side, side)
    objects = _draw_objects(rng, size, depth + rules.reach)
    for _ in range(rng.integers(4)):  # quarter turns of the picture
        mark = Mark(size - mark.top - mark.height, mark.left, mark.height, mark.width)
        objects = [replace(spec, center=(1 - spec.center[1], spec.center[0])) for spec in objects]
    return mark, tuple(objects)


def _draw_objects(rng: Generator, size: int, first: int) -> list[ObjectSpec]:
    """One to three objects, in row ``first`` or below."""
    room = min(size - first, MAX_SIZE / OBJECT_SIZES[1] * size)
    canvas = Canvas()
    count = rng.integers(1, MAX_OBJECTS + 1)
    while not canvas.specs:
        for _ in range(count):
            kind = CONTEXT_KINDS[rng.integers(len(CONTEXT_KINDS))]
            for _ in range(_TRIES):
                extent = room * rng.uniform(*OBJECT_SIZES)
                x = rng.uniform(extent / 2, size - extent / 2)
                y = rng.uniform(first + extent / 2, size - extent / 2)
                angle = rng.uniform(0, 2 * np.pi)
                if canvas.try_add(ObjectSpec(kind, (x / size, y / size), extent / size, angle)):
                    break
    return canvas.specs


def draw_cue(rng: Generator) -> str:
    return CUES[rng.integers(len(CUES))]


def paint_mark(rng: Generator, image: np.ndarray, mark: Mark, cue: str) -> None:
    """Paint the mark in two tones of its colour onto ``image``, float32 BGR ``(size, size, 3)``."""
    tones = Paint(_draw_tone(rng, cue), _draw_tone(rng, cue))
    image[mark.window] = tones.mixed(octave_noise(rng, len(image))[mark.window])


def _draw_tone(rng: Generator, cue: str) -> np.ndarray:
    hue = rng.uniform(*_HUES[cue]) / 360 % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, rng.uniform(*_SATURATION), rng.uniform(*_VALUE))
    return np.array([blue, green, red], np.float32) * np.float32(255)
