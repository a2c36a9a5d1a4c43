_base_ = [
    '../_base_/models/retinanet_fpn.py',
    '../_base_/models/pyramid_weightformer.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/coco_1x.py',
]

# 12 epochs * 117266 images / batch 16 = 87960 iterations
model = dict(
    backbone=dict(_base_.pyramid_weightformer_tiny, out_indices=(1, 2, 3)),
    neck=dict(in_channels=_base_.pyramid_weightformer_tiny_channels[1:]),
)
