_base_ = './mask-rcnn_pyramid-weightformer-micro_fpn_1xb8-50e_nuclei-256x256.py'

# 50 epochs * 603 images / batch 8 = 3800 iterations
model = dict(
    backbone=_base_.pyramid_weightformer_nano,
    neck=dict(in_channels=_base_.pyramid_weightformer_nano_channels),
)
