_base_ = [
    '../_base_/models/mask-rcnn_fpn.py',
    '../_base_/models/pyramid_weightformer.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/coco_1x.py',
]

# 12 epochs * 117266 images / batch 16 = 87960 iterations
model = dict(
    backbone=_base_.pyramid_weightformer_tiny,
    neck=dict(in_channels=_base_.pyramid_weightformer_tiny_channels),
)
