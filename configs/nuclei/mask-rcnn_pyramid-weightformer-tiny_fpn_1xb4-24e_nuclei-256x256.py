_base_ = './mask-rcnn_pyramid-weightformer-micro_fpn_1xb4-24e_nuclei-256x256.py'

# 24 epochs * 603 images / batch 4 = 3624 iterations
model = dict(
    backbone=_base_.pyramid_weightformer_tiny,
    neck=dict(in_channels=_base_.pyramid_weightformer_tiny_channels),
)
