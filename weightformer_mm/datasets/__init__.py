"""Data sets. They need numpy, OpenCV, pycocotools and tqdm, and no torch."""

from __future__ import annotations

from weightformer_mm.datasets.miniatures import LAYOUTS, MiniatureError, make_miniature
from weightformer_mm.datasets.shapes import (
    CLASSES,
    CONTEXT_CLASSES,
    CONTEXT_SEG_CLASSES,
    CONTEXT_SEG_PALETTE,
    PALETTE,
    SEG_CLASSES,
    SEG_PALETTE,
    STATIC_REACH,
    ContextRules,
    ShapesConfig,
    ShapesError,
    make_shapes,
    render_sample,
)

__all__ = [
    'CLASSES',
    'CONTEXT_CLASSES',
    'CONTEXT_SEG_CLASSES',
    'CONTEXT_SEG_PALETTE',
    'LAYOUTS',
    'MiniatureError',
    'PALETTE',
    'SEG_CLASSES',
    'SEG_PALETTE',
    'STATIC_REACH',
    'ContextRules',
    'ShapesConfig',
    'ShapesError',
    'make_miniature',
    'make_shapes',
    'render_sample',
]
