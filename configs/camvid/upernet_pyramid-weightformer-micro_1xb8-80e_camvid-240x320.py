_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/models/pyramid_weightformer.py',
    '../_base_/models/from_scratch.py',
    '../_base_/datasets/camvid.py',
    '../_base_/schedules/camvid.py',
]

# 80 epochs * 367 images / batch 8 = 3680 iterations. Narrow heads: 2.5 G multiply-adds at 360x480 pixels.
# GroupNorm, so that a smaller batch or more GPUs change nothing.
max_epochs = 80
train_cfg = dict(max_epochs=max_epochs)
channels = _base_.pyramid_weightformer_micro_channels
norm_cfg = dict(type='GN', num_groups=8, requires_grad=True)
heads = dict(num_classes=11, norm_cfg=norm_cfg, ignore_index=_base_.void_label)
cross_entropy = dict(type='CrossEntropyLoss', loss_weight=1.0, class_weight=_base_.class_weight)
# Lovasz-Softmax (Berman, Triki, Blaschko, CVPR 2018) is a surrogate of the mean IoU.
lovasz = dict(type='LovaszLoss', reduction='none')
model = dict(
    # all images have one size
    data_preprocessor=dict(
        type='SegDataPreProcessor', size=_base_.crop_size, seg_pad_val=_base_.void_label
    ),
    backbone=dict(**_base_.pyramid_weightformer_micro, init_cfg=_base_.scratch_init),
    decode_head=dict(
        in_channels=channels, channels=48, loss_decode=[cross_entropy, lovasz], **heads
    ),
    auxiliary_head=dict(
        in_channels=channels[2],
        channels=64,
        loss_decode=dict(class_weight=_base_.class_weight),
        **heads,
    ),
    test_cfg=dict(crop_size=(360, 480), stride=(240, 320)),
)
