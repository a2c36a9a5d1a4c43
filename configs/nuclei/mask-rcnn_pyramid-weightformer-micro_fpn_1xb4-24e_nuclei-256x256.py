_base_ = [
    '../_base_/models/mask-rcnn_fpn.py',
    '../_base_/models/pyramid_weightformer.py',
    '../_base_/models/from_scratch.py',
    '../_base_/datasets/nuclei.py',
    '../_base_/schedules/nuclei.py',
]

# 24 epochs * 603 images / batch 4 = 3624 iterations. Narrow heads, as there is one class. Anchors of 8 to 128
# pixels, and levels that fit: nuclei of less than 56 pixels are read at stride 4. The limits leave room for
# the 375 nuclei of the most crowded image.
width = 48
model = dict(
    data_preprocessor=dict(type='DetDataPreprocessor'),  # crops of one size
    backbone=dict(**_base_.pyramid_weightformer_micro, init_cfg=_base_.scratch_init),
    neck=dict(in_channels=_base_.pyramid_weightformer_micro_channels, out_channels=width),
    rpn_head=dict(in_channels=width, feat_channels=width, anchor_generator=dict(scales=[2])),
    roi_head=dict(
        bbox_roi_extractor=dict(
            out_channels=width, finest_scale=28, roi_layer=dict(sampling_ratio=2)
        ),
        bbox_head=dict(in_channels=width, fc_out_channels=256, num_classes=1),
        mask_roi_extractor=dict(
            out_channels=width, finest_scale=28, roi_layer=dict(sampling_ratio=2)
        ),
        mask_head=dict(num_convs=3, in_channels=width, conv_out_channels=width, num_classes=1),
    ),
    train_cfg=dict(rcnn=dict(sampler=dict(num=128, pos_fraction=0.5))),
    test_cfg=dict(rpn=dict(nms_pre=2000), rcnn=dict(max_per_img=_base_.max_per_img)),
)
tta_model = dict(tta_cfg=dict(max_per_img=_base_.max_per_img))
# the averaged weights are evaluated and saved; with gamma=10, over about the last tenth of the iterations
default_hooks = dict(ema=dict(type='EMAHook', ema_type='MomentumAnnealingEMA', gamma=10))
