_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/datasets/shapes_segmentation.py',
    '../_base_/schedules/shapes.py',
]

norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    backbone=dict(type='PyramidWeightFormer', arch='micro'),
    decode_head=dict(in_channels=[32, 64, 128, 192], channels=32, num_classes=7, norm_cfg=norm_cfg),
    auxiliary_head=dict(in_channels=128, channels=32, num_classes=7, norm_cfg=norm_cfg),
)
