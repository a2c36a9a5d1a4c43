# A head that looks at one position at a time: a 1x1 convolution on all outputs of the backbone. It has no
# norm, as BatchNorm takes statistics over positions. A config adds the backbone, in_channels, channels
# (their sum) and the number of classes.
_base_ = '../segmentation.py'

model = dict(
    _scope_='mmseg',
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SizedSegDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size_divisor=32,
    ),
    decode_head=dict(
        type='FCNHead',
        in_index=[0, 1],
        input_transform='resize_concat',
        num_convs=0,
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=150,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
