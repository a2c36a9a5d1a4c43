"""Shapes: generated pictures for instance and semantic segmentation, in COCO and ADE20K form."""
