_base_ = [
    '../_base_/models/segformer.py',
    '../_base_/models/pyramid_weightformer.py',
    '../_base_/models/from_scratch.py',
    '../_base_/datasets/camvid.py',
    '../_base_/schedules/camvid.py',
]

# 100 epochs * 367 images / batch 8 = 4600 iterations. The light head: 1x1 convolutions and no pyramid
# pooling, because every map of this backbone has seen the whole image. 1.4 G multiply-adds at 360x480 pixels.
model = dict(
    # all images have one size
    data_preprocessor=dict(
        type='SegDataPreProcessor', size=_base_.crop_size, seg_pad_val=_base_.void_label
    ),
    backbone=dict(**_base_.pyramid_weightformer_micro, init_cfg=_base_.scratch_init),
    decode_head=dict(
        in_channels=_base_.pyramid_weightformer_micro_channels,
        channels=64,
        num_classes=11,
        norm_cfg=dict(_delete_=True, type='GN', num_groups=8, requires_grad=True),
        ignore_index=_base_.void_label,
        loss_decode=dict(class_weight=_base_.class_weight),
    ),
    test_cfg=dict(crop_size=(360, 480), stride=(240, 320)),
)
