_base_ = './mask-rcnn_pyramid-weightformer-tiny_fpn_ms-crop-3x_coco.py'

# 36 epochs * 117266 images / batch 16 = 263880 iterations
model = dict(
    backbone=_base_.pyramid_weightformer_base,
    neck=dict(in_channels=_base_.pyramid_weightformer_base_channels),
)
