"""Pictures of any size and class, drawn by Shapes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from weightformer_mm.datasets.shapes import paint
from weightformer_mm.datasets.shapes.classes import CLASSES
from weightformer_mm.datasets.shapes.scene import SPLITS, render_sample

_OWN_KEY = 11  # of the random numbers that Shapes does not draw


@dataclass(frozen=True)
class Picture:
    """One picture with its truth.

    Attributes:
        image: uint8 BGR ``(height, width, 3)``.
        instances: int32 ``(height, width)``: ``k + 1`` where object k is seen, 0 elsewhere.
        classes: class of each object, from 0 on.
        ground: class of what lies behind them.
    """

    image: np.ndarray
    instances: np.ndarray
    classes: tuple[int, ...]
    ground: int


def sizes(height: int, width: int) -> tuple[tuple[int, int], ...]:
    """Height and width of the pictures in turn: landscape, upright, odd, square, narrow."""
    return (
        (height, width),
        (width, height),
        (height * 8 // 9 | 1, width - 1 | 1),
        (height, height),
        (width - 1 | 1, height * 5 // 8 | 1),
    )


def draw_picture(
    seed: int, split: str, index: int, height: int, width: int, num_classes: int
) -> Picture:
    """Draw picture ``index`` of a split: the middle of a square scene, so objects may leave it.

    The outline of an object gives its class, up to multiples of the number of outlines.
    """
    scene = render_sample(seed, split, index, max(height, width))
    rng = _stream(seed, split, index)
    classes = []
    for spec in scene.objects:
        outline = CLASSES.index(spec.kind)
        classes.append(int(rng.choice(np.arange(outline, num_classes, len(CLASSES)))))
    image, instances = (_middle(array, height, width) for array in (scene.image, scene.instances))
    return Picture(image, instances, tuple(classes), ground=int(rng.integers(num_classes)))


def draw_ground(seed: int, split: str, index: int, height: int, width: int) -> np.ndarray:
    """A picture with nothing on it: uint8 BGR ``(height, width, 3)``."""
    rng = _stream(seed, split, index)
    ground = paint.draw_ground(rng, max(height, width), paint.draw_background(rng))
    return _middle(np.clip(np.rint(ground), 0, 255).astype(np.uint8), height, width)


def _stream(seed: int, split: str, index: int) -> np.random.Generator:
    key = np.random.SeedSequence([seed, SPLITS.index(split), index], spawn_key=(_OWN_KEY,))
    return np.random.default_rng(key)


def _middle(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle of a square array ``(side, side, ...)``, in memory of its own."""
    top, left = (len(array) - height) // 2, (len(array) - width) // 2
    return np.ascontiguousarray(array[top : top + height, left : left + width])
