"""One sample: the picture, its instances and its labels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

from . import outlines, paint
from .classes import BACKGROUND_LABEL, category_id
from .context import ContextRules, Mark, draw_context, draw_cue, paint_mark
from .layout import draw_layout, draw_single
from .outlines import ObjectSpec

SPLITS = ('train', 'val')
# pictures of one object, and pictures with a mark, draw from their own random streams
_SINGLE_KEY, _CONTEXT_KEY, _CUE_KEY = 1, 2, 3
_GRAIN = 2.0  # standard deviation of the pixel noise, in grey levels


@dataclass(frozen=True)
class Sample:
    """One picture with its truth.

    Attributes:
        image: uint8 BGR ``(size, size, 3)``.
        instances: int32 ``(size, size)``: ``k + 1`` where ``objects[k]`` is seen, 0 elsewhere.
        labels: uint8 ``(size, size)``, values as in the label PNGs.
        objects: from back to front; each has at least one pixel in ``instances``.
        mark: in ContextShapes, the coloured rectangle.
        cue: in ContextShapes, its colour, which is part of every object's class.
    """

    image: np.ndarray
    instances: np.ndarray
    labels: np.ndarray
    objects: tuple[ObjectSpec, ...]
    mark: Mark | None = None
    cue: str | None = None


def _streams(seed: int, split: str, index: int, key: int | None = None) -> tuple[Generator, ...]:
    """Independent generators for layout, colours, textures and grain of one sample."""
    spawn_key = () if key is None else (key,)
    sequence = np.random.SeedSequence([seed, SPLITS.index(split), index], spawn_key=spawn_key)
    return tuple(np.random.default_rng(child) for child in sequence.spawn(4))


def _local_coordinates(
    spec: ObjectSpec, angle: float, window: tuple[slice, slice], size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres of a window in the object's frame, turned by ``angle``, in units of the object's size."""
    y, x = ((np.arange(axis.start, axis.stop, dtype=np.float32) + 0.5) / size for axis in window)
    x, y = x[None] - spec.center[0], y[:, None] - spec.center[1]
    cos, sin = np.cos(angle) / spec.size, np.sin(angle) / spec.size
    return (cos * x + sin * y).astype(np.float32), (-sin * x + cos * y).astype(np.float32)


def _shade(
    rng: Generator, u: np.ndarray, v: np.ndarray, inside: np.ndarray, rim: float
) -> np.ndarray:
    """Light from one side and a dark edge ``rim`` pixels wide: factors with the shape of ``u``."""
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.35)
    light = 1 + strength * (np.cos(angle) * u + np.sin(angle) * v)
    padded = cv2.copyMakeBorder(inside.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    edge = rng.uniform(0.1, 0.3) * np.clip(1 - depth / rim, 0, 1)
    return light * (1 - edge)


def _draw_object(
    rng: Generator,
    image: np.ndarray,
    instances: np.ndarray,
    spec: ObjectSpec,
    tones: paint.Paint,
    number: int,
) -> None:
    """Paint one object over ``image`` and write ``number`` where it covers ``instances``."""
    size = len(image)
    window, alpha = outlines.coverage(outlines.place(spec, size), size)
    inside = alpha >= 0.5
    texture = paint.TEXTURES[rng.choice(list(paint.TEXTURES))]
    u, v = _local_coordinates(spec, rng.uniform(0, 2 * np.pi), window, size)
    surface = tones.mixed(texture(rng, u, v))
    rim = max(1.5, 0.05 * spec.size * size)
    surface = np.clip(surface * _shade(rng, u, v, inside, rim)[..., None], 0, 255)
    image[window] += alpha[..., None] * (surface - image[window])
    instances[window][inside] = number


def render_sample(
    seed: int,
    split: str,
    index: int,
    size: int,
    single: bool = False,
    context: ContextRules | None = None,
) -> Sample:
    """Draw sample ``index`` of a split; the result depends only on the arguments.

    Another ``size`` gives the same composition at another resolution, except with ``context``, which
    measures distances in pixels.

    Args:
        seed: non-negative seed of the whole set.
        split: ``'train'`` or ``'val'``.
        index: number of the sample in its split, from 0.
        size: side of the square picture in pixels.
        single: draw one large object near the middle instead of two to six, in a picture of its own.
        context: draw objects of ContextShapes and their mark instead.
    """
    key = _CONTEXT_KEY if context else _SINGLE_KEY if single else None
    layout_rng, color_rng, texture_rng, grain_rng = _streams(seed, split, index, key)
    mark = cue = None
    ground = paint.draw_background(color_rng)
    image = paint.draw_ground(texture_rng, size, ground)
    if context is not None:
        mark, objects = draw_context(layout_rng, size, context)
        # Separate streams: nothing else in the picture depends on the cue.
        cue_rng, tone_rng, *_ = _streams(seed, split, index, _CUE_KEY)
        cue = draw_cue(cue_rng)
        paint_mark(tone_rng, image, mark, cue)
    else:
        objects = (draw_single if single else draw_layout)(layout_rng)
    instances = np.zeros((size, size), np.int32)
    paints: list[paint.Paint] = []
    for number, spec in enumerate(objects, start=1):
        paints.append(paint.draw_object(color_rng, ground, paints))
        _draw_object(texture_rng, image, instances, spec, paints[-1], number)
    image += _GRAIN * grain_rng.standard_normal(image.shape, dtype=np.float32)
    values = BACKGROUND_LABEL + np.array([0, *(category_id(spec.kind, cue) for spec in objects)])
    labels = values.astype(np.uint8)[instances]
    image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return Sample(image, instances, labels, objects, mark, cue)
