_base_ = [
    '../_base_/segmentation.py',
    '../_base_/models/upernet.py',
    '../_base_/models/from_scratch.py',
    '../_base_/datasets/shapes_segmentation.py',
    '../_base_/schedules/shapes.py',
]

# Narrow heads, and GroupNorm because a batch is four images.
norm_cfg = dict(type='GN', num_groups=8, requires_grad=True)
model = dict(
    data_preprocessor=dict(size=None, size_divisor=32),
    backbone=dict(type='PyramidWeightFormer', arch='micro', init_cfg=_base_.scratch_init),
    decode_head=dict(in_channels=[32, 64, 128, 192], channels=32, num_classes=7, norm_cfg=norm_cfg),
    auxiliary_head=dict(
        in_channels=128, channels=128, num_convs=0, num_classes=7, norm_cfg=norm_cfg
    ),
)

# 23 epochs * 400 images / batch 4 = 2300 iterations: in the time of the detector's 1800.
max_epochs = 23
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=5e-3, fallback_lr_scale=1 / 5))
