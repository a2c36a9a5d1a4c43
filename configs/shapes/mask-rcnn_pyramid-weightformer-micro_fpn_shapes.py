_base_ = [
    '../_base_/models/mask-rcnn_fpn.py',
    '../_base_/datasets/shapes_detection.py',
    '../_base_/schedules/shapes.py',
]

# Narrow heads and few proposals: the task is small, and it trains on a CPU in minutes.
width = 48
model = dict(
    backbone=dict(type='PyramidWeightFormer', arch='micro'),
    neck=dict(in_channels=[32, 64, 128, 192], out_channels=width),
    rpn_head=dict(in_channels=width, feat_channels=width, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=width),
        bbox_head=dict(in_channels=width, fc_out_channels=256, num_classes=6),
        mask_roi_extractor=dict(out_channels=width),
        mask_head=dict(num_convs=2, in_channels=width, conv_out_channels=width, num_classes=6),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=200),
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=200), rcnn=dict(max_per_img=50)),
)
