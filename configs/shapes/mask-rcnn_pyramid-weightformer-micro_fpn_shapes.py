_base_ = [
    '../_base_/models/mask-rcnn_fpn.py',
    '../_base_/models/from_scratch.py',
    '../_base_/datasets/shapes_detection.py',
    '../_base_/schedules/shapes.py',
]

# Narrow heads and few proposals: the task is small, and it trains on a CPU in minutes. The classes
# share box and mask regression, as there are few objects to learn from. Anchors and levels fit
# objects of 18 to 146 pixels.
width = 48
model = dict(
    backbone=dict(type='PyramidWeightFormer', arch='micro', init_cfg=_base_.scratch_init),
    neck=dict(in_channels=[32, 64, 128, 192], out_channels=width),
    rpn_head=dict(in_channels=width, feat_channels=width, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(
            out_channels=width, finest_scale=28, roi_layer=dict(sampling_ratio=2)
        ),
        bbox_head=dict(
            in_channels=width,
            fc_out_channels=256,
            num_classes=6,
            reg_class_agnostic=True,
            reg_decoded_bbox=True,
            loss_bbox=dict(_delete_=True, type='GIoULoss', loss_weight=5.0),
        ),
        mask_roi_extractor=dict(out_channels=width, roi_layer=dict(sampling_ratio=2)),
        mask_head=dict(
            num_convs=3,
            in_channels=width,
            conv_out_channels=width,
            num_classes=6,
            class_agnostic=True,
        ),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=200),
        rcnn=dict(sampler=dict(num=64, pos_fraction=0.5)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=200), rcnn=dict(max_per_img=50)),
)
