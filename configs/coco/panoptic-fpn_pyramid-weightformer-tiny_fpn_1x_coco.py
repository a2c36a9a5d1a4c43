_base_ = [
    '../_base_/models/panoptic-fpn.py',
    '../_base_/models/pyramid_weightformer.py',
    '../_base_/datasets/coco_panoptic.py',
    '../_base_/schedules/coco_1x.py',
]

# 12 epochs * 118287 images / batch 16 = 88716 iterations
model = dict(
    backbone=_base_.pyramid_weightformer_tiny,
    neck=dict(in_channels=_base_.pyramid_weightformer_tiny_channels),
)
