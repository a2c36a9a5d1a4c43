"""How surfaces look: colours that differ enough in CIE Lab to be told apart, textures, backgrounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator

_CANDIDATES = 512
OBJECT_TO_BACKGROUND = 45.0  # this and those below: least distances in Lab
OBJECT_TO_OBJECT = 40.0
ACCENT_TO_BACKGROUND = 35.0
ACCENT_TO_BASE = 18.0  # desired, give or take 6
ACCENT_TO_OBJECT = 28.0


class Paint(NamedTuple):
    """The two tones of one texture: float32 ``(3,)`` each, BGR in 0..255."""

    base: np.ndarray
    accent: np.ndarray

    def mixed(self, weight: np.ndarray) -> np.ndarray:
        """``(H, W, 3)``: the base where ``weight``, ``(H, W)``, is 0, and the accent where it is 1."""
        return self.base + (self.accent - self.base) * weight[..., None]


def to_lab(bgr: np.ndarray) -> np.ndarray:
    """BGR in 0..255, ``(N, 3)``, to CIE Lab, float32 ``(N, 3)``."""
    scaled = np.asarray(bgr, np.float32).reshape(1, -1, 3) / np.float32(255)
    return cv2.cvtColor(scaled, cv2.COLOR_BGR2Lab)[0]


def _distances(lab: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """Least distance of each candidate to the given colours (BGR); infinite where there is none."""
    if not others:
        return np.full(len(lab), np.inf)
    return np.linalg.norm(lab[:, None] - to_lab(np.stack(others))[None], axis=-1).min(axis=1)


def _pick(candidates: np.ndarray, shortfall: np.ndarray) -> np.ndarray:
    """The first candidate that meets every wish, else the one that misses by the least."""
    return candidates[int(np.argmin(np.maximum(shortfall, 0)))]


def draw_background(rng: Generator) -> Paint:
    """Two similar colours of low chroma."""
    candidates = rng.uniform(30, 225, (_CANDIDATES, 3)).astype(np.float32)
    lab = to_lab(candidates)
    base = _pick(candidates, np.linalg.norm(lab[:, 1:], axis=1) - 30)
    distance = _distances(lab, [base])
    return Paint(base, _pick(candidates, np.abs(distance - 16) - 5))


def draw_object(rng: Generator, background: Paint, others: list[Paint]) -> Paint:
    """Two similar tones, both far from the background and from the tones of the other objects."""
    tones = [tone for paint in others for tone in paint]
    candidates = rng.uniform(20, 250, (_CANDIDATES, 3)).astype(np.float32)
    lab = to_lab(candidates)
    to_background, to_others = _distances(lab, background), _distances(lab, tones)
    contrast = np.maximum(OBJECT_TO_BACKGROUND - to_background, OBJECT_TO_OBJECT - to_others)
    base = _pick(candidates, contrast)
    contrast = np.maximum(ACCENT_TO_BACKGROUND - to_background, ACCENT_TO_OBJECT - to_others)
    similarity = np.abs(_distances(lab, [base]) - ACCENT_TO_BASE) - 6
    return Paint(base, _pick(candidates, np.maximum(contrast, similarity)))


def _soft_step(wave: np.ndarray, sharpness: float = 2.5) -> np.ndarray:
    return np.clip(0.5 + sharpness * wave, 0, 1)


def plain(rng: Generator, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.zeros_like(u)


def stripes(rng: Generator, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    cycles, phase = rng.uniform(2.5, 5), rng.uniform(0, 2 * np.pi)
    return _soft_step(np.sin(2 * np.pi * cycles * u + phase))


def checks(rng: Generator, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    cycles, phase = rng.uniform(2, 3.5), rng.uniform(0, 2 * np.pi, 2)
    wave = np.sin(2 * np.pi * cycles * u + phase[0]) * np.sin(2 * np.pi * cycles * v + phase[1])
    return _soft_step(wave, 4)


def dots(rng: Generator, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    cycles, phase = rng.uniform(3, 5), rng.uniform(0, 2 * np.pi, 2)
    wave = np.cos(2 * np.pi * cycles * u + phase[0]) + np.cos(2 * np.pi * cycles * v + phase[1])
    return _soft_step(wave - 0.7)


def rings(rng: Generator, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    cycles, center = rng.uniform(2.5, 4.5), rng.uniform(-0.5, 0.5, 2)
    radius = np.hypot(u - center[0], v - center[1])
    return _soft_step(np.sin(2 * np.pi * cycles * radius), 1.5)


def marble(rng: Generator, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    grid = rng.random((9, 9)).astype(np.float32)
    # 4 +- 5.2 * 0.5 * sqrt(2) stays within the grid's outermost nodes, 0 and 8.
    x, y = ((w * 5.2 + 4).astype(np.float32) for w in (u, v))
    return np.clip(cv2.remap(grid, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT), 0, 1)


def gradient(rng: Generator, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.clip(0.5 + u, 0, 1)


# A texture takes local coordinates u, v: float32, -0.5..0.5 over the object's greatest extent (up to
# sqrt(2) times that in the window's corners). It returns weights of their shape.
TEXTURES = {
    texture.__name__: texture for texture in (plain, stripes, checks, dots, rings, marble, gradient)
}


def octave_noise(rng: Generator, size: int) -> np.ndarray:
    """Noise of four octaves, the same at every resolution: float32 ``(size, size)`` in 0..1."""
    persistence = rng.uniform(0.4, 0.8)
    total = np.zeros((size, size), np.float32)
    for octave in range(4):
        cells = 4 * 2**octave
        grid = rng.standard_normal((cells, cells)).astype(np.float32)
        noise = cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
        total += np.float32(persistence**octave) * noise
    return np.clip(0.5 + total / (4 * total.std()), 0, 1)


def _scatter_lines(rng: Generator, size: int) -> np.ndarray:
    """Faint random lines, as a weight in -1..1 of shape ``(size, size)``."""
    weights = np.zeros((size, size), np.float32)
    for _ in range(rng.integers(3, 12)):
        ends = rng.uniform(-0.1, 1.1, (2, 2)) * size
        thickness = max(1, round(float(rng.uniform(0.8, 2.6)) * size / 256))
        stroke = np.zeros((size, size), np.uint8)
        start, stop = (tuple(int(c) for c in np.round(end * 16)) for end in ends)
        cv2.line(stroke, start, stop, 255, thickness, cv2.LINE_AA, shift=4)
        weights += np.float32(rng.choice([-1, 1]) / 255) * stroke
    return np.clip(weights, -1, 1)


def draw_ground(rng: Generator, size: int, paint: Paint) -> np.ndarray:
    """Noise, a light gradient and lines: float32 BGR ``(size, size, 3)``, about 0..255."""
    ground = paint.mixed(octave_noise(rng, size))
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.14)
    light = strength * (np.cos(angle) * axis[None] + np.sin(angle) * axis[:, None])
    lines = rng.uniform(0.06, 0.16) * _scatter_lines(rng, size)
    return (ground * (1 + light + lines)[..., None]).astype(np.float32)
