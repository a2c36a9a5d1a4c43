_base_ = [
    '../_base_/models/sem-fpn.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/segmentation_80k.py',
]

# 80 000 iterations * batch 16 (8 GPUs * 2) / 20 210 images = 63.3 epochs
model = dict(
    backbone=dict(type='PyramidWeightFormer', arch='tiny', drop_path_rate=0.2),
    neck=dict(in_channels=[64, 128, 320, 512]),
)
# PVT's protocol for this head: poly decay with power 0.9 and no warm-up
optim_wrapper = dict(optimizer=dict(lr=1e-4, weight_decay=1e-4))
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, end=80000, by_epoch=False)]
