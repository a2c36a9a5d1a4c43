"""Shapes: generated pictures for instance and semantic segmentation, in the formats of COCO and ADE20K."""
