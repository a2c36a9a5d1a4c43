_base_ = [
    '../_base_/models/sem-fpn.py',
    '../_base_/models/pyramid_weightformer.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/segmentation_80k.py',
]

# 80 000 iterations * batch 16 (8 GPUs * 2) / 20 210 images = 63.3 epochs
model = dict(
    backbone=_base_.pyramid_weightformer_tiny,
    neck=dict(in_channels=_base_.pyramid_weightformer_tiny_channels),
)
# PVT's protocol for this head: poly decay with power 0.9 and no warm-up
optim_wrapper = dict(optimizer=dict(lr=1e-4, weight_decay=1e-4))
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, end=80000, by_epoch=False)]
