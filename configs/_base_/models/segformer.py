# SegFormer's head: all maps to one width, fused by one 1x1 convolution. A config adds the backbone, the
# head's in_channels and, for other data than ADE20K, the number of classes.
_base_ = './segmentor.py'

model = dict(
    decode_head=dict(
        type='SegformerHead',
        in_index=[0, 1, 2, 3],
        channels=256,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
)
