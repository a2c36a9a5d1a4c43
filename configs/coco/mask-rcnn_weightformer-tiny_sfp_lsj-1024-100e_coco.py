_base_ = [
    '../_base_/models/mask-rcnn_sfp.py',
    '../_base_/models/released.py',
    '../_base_/datasets/coco_lsj.py',
    '../_base_/schedules/coco_lsj.py',
]

# 100 epochs * 117266 images / batch 64 = 183300 iterations
model = dict(
    data_preprocessor=_base_.pad,
    backbone=_base_.weightformer_tiny,
    neck=dict(in_channels=192),
)
