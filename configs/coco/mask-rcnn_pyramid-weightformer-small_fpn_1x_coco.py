_base_ = './mask-rcnn_pyramid-weightformer-tiny_fpn_1x_coco.py'

# 12 epochs * 117266 images / batch 16 = 87960 iterations
model = dict(
    backbone=_base_.pyramid_weightformer_small,
    neck=dict(in_channels=_base_.pyramid_weightformer_small_channels),
)
