"""Data sets. Importing this package needs numpy, OpenCV and pycocotools only."""

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
