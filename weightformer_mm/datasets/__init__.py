"""Data sets. They need numpy, OpenCV, pycocotools and tqdm, and no torch."""

from __future__ import annotations

from weightformer_mm.datasets.shapes import (
    CLASSES,
    PALETTE,
    SEG_CLASSES,
    SEG_PALETTE,
    ShapesConfig,
    ShapesError,
    make_shapes,
    render_sample,
)

__all__ = [
    'CLASSES',
    'PALETTE',
    'SEG_CLASSES',
    'SEG_PALETTE',
    'ShapesConfig',
    'ShapesError',
    'make_shapes',
    'render_sample',
]
