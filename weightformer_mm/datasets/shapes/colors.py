"""Colours that differ enough to be told apart, chosen in CIE Lab."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_CANDIDATES = 512
OBJECT_TO_BACKGROUND = 45.0  # least distances in Lab
OBJECT_TO_OBJECT = 40.0
ACCENT_TO_BACKGROUND = 35.0
ACCENT_TO_BASE = 18.0  # wished for, give or take 6
ACCENT_TO_OBJECT = 28.0


@dataclass(frozen=True)
class Paint:
    """The two tones of one texture: float32 ``(3,)`` each, BGR in 0..255."""

    base: np.ndarray
    accent: np.ndarray


def to_lab(bgr: np.ndarray) -> np.ndarray:
    """BGR in 0..255, ``(N, 3)``, to CIE Lab, float32 ``(N, 3)``."""
    scaled = np.asarray(bgr, np.float32).reshape(1, -1, 3) / np.float32(255)
    return cv2.cvtColor(scaled, cv2.COLOR_BGR2Lab)[0]


def _distances(lab: np.ndarray, others: list[np.ndarray]) -> np.ndarray:
    """Least distance of each candidate to the given colours (BGR); infinite where there is none."""
    if not others:
        return np.full(len(lab), np.inf)
    return np.linalg.norm(lab[:, None] - to_lab(np.stack(others))[None], axis=-1).min(axis=1)


def _pick(candidates: np.ndarray, shortfall: np.ndarray) -> np.ndarray:
    """The first candidate that meets every wish, else the one that misses by least."""
    return candidates[int(np.argmin(np.maximum(shortfall, 0)))]


def _draw_candidates(
    rng: np.random.Generator, low: float, high: float
) -> tuple[np.ndarray, np.ndarray]:
    candidates = rng.uniform(low, high, (_CANDIDATES, 3)).astype(np.float32)
    return candidates, to_lab(candidates)


def draw_background(rng: np.random.Generator) -> Paint:
    """Two similar colours of low chroma."""
    candidates, lab = _draw_candidates(rng, 30, 225)
    base = _pick(candidates, np.linalg.norm(lab[:, 1:], axis=1) - 30)
    distance = _distances(lab, [base])
    return Paint(base, _pick(candidates, np.abs(distance - 16) - 5))


def draw_object(rng: np.random.Generator, background: Paint, others: list[Paint]) -> Paint:
    """Two similar tones, both far from the background and from the tones of the other objects."""
    tones = [tone for paint in others for tone in (paint.base, paint.accent)]
    behind = [background.base, background.accent]
    candidates, lab = _draw_candidates(rng, 20, 250)
    to_background, to_others = _distances(lab, behind), _distances(lab, tones)
    base = _pick(
        candidates,
        np.maximum(OBJECT_TO_BACKGROUND - to_background, OBJECT_TO_OBJECT - to_others),
    )
    contrast = np.maximum(ACCENT_TO_BACKGROUND - to_background, ACCENT_TO_OBJECT - to_others)
    accent = _pick(
        candidates, np.maximum(contrast, np.abs(_distances(lab, [base]) - ACCENT_TO_BASE) - 6)
    )
    return Paint(base, accent)
