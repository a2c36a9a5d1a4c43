_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/models/from_scratch.py',
    '../_base_/datasets/shapes_segmentation.py',
    '../_base_/schedules/shapes.py',
]

# Narrow heads, and GroupNorm because a batch is two images. Background covers 85 % of the pixels: its
# weight is lowered, so that telling the kinds apart is most of the loss.
norm_cfg = dict(type='GN', num_groups=8, requires_grad=True)
class_weight = [0.2, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
model = dict(
    backbone=dict(type='PyramidWeightFormer', arch='micro', init_cfg=_base_.scratch_init),
    decode_head=dict(
        in_channels=[32, 64, 128, 192],
        channels=32,
        num_classes=7,
        norm_cfg=norm_cfg,
        loss_decode=dict(class_weight=class_weight),
    ),
    auxiliary_head=dict(
        in_channels=192,
        in_index=3,
        channels=192,
        num_convs=0,
        num_classes=7,
        norm_cfg=norm_cfg,
        loss_decode=dict(class_weight=class_weight),
    ),
)

# 15 epochs * 400 images / batch 2 = 3000 iterations: in the time of the detector's 2200.
max_epochs = 15
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(
        type='CosineAnnealingLR',
        T_max=max_epochs,
        eta_min_ratio=0.01,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
