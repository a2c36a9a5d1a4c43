"""Shapes: generated pictures for instance and semantic segmentation, in COCO and ADE20K form."""

from __future__ import annotations

from weightformer_mm.datasets.shapes.classes import (
    CLASSES,
    CONTEXT_CLASSES,
    CONTEXT_SEG_CLASSES,
    CONTEXT_SEG_PALETTE,
    PALETTE,
    SEG_CLASSES,
    SEG_PALETTE,
)
from weightformer_mm.datasets.shapes.context import STATIC_REACH, ContextRules
from weightformer_mm.datasets.shapes.errors import ShapesError
from weightformer_mm.datasets.shapes.manifest import ShapesConfig
from weightformer_mm.datasets.shapes.scene import Sample, render_sample
from weightformer_mm.datasets.shapes.writer import make_shapes

__all__ = [
    'CLASSES',
    'CONTEXT_CLASSES',
    'CONTEXT_SEG_CLASSES',
    'CONTEXT_SEG_PALETTE',
    'PALETTE',
    'SEG_CLASSES',
    'SEG_PALETTE',
    'STATIC_REACH',
    'ContextRules',
    'Sample',
    'ShapesConfig',
    'ShapesError',
    'make_shapes',
    'render_sample',
]
