"""Shapes: generated pictures for instance and semantic segmentation, in COCO and ADE20K form."""

from __future__ import annotations

from weightformer_mm.datasets.shapes.classes import CLASSES, PALETTE, SEG_CLASSES, SEG_PALETTE
from weightformer_mm.datasets.shapes.errors import ShapesError
from weightformer_mm.datasets.shapes.folder import make_shapes
from weightformer_mm.datasets.shapes.manifest import ShapesConfig
from weightformer_mm.datasets.shapes.scene import Sample, render_sample

__all__ = [
    'CLASSES',
    'PALETTE',
    'SEG_CLASSES',
    'SEG_PALETTE',
    'Sample',
    'ShapesConfig',
    'ShapesError',
    'make_shapes',
    'render_sample',
]
