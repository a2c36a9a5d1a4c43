# The recipe, narrow and with one block per stage: the tests of the command lines train it.
_base_ = '../../configs/shapes/mask-rcnn_pyramid-weightformer-micro_fpn_shapes.py'
widths = [8, 16, 24, 32]
width = 16
model = dict(
    backbone=dict(arch=dict(_delete_=True, embed_dims=widths, depths=[1, 1, 1, 1])),
    neck=dict(in_channels=widths, out_channels=width),
    rpn_head=dict(in_channels=width, feat_channels=width),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=width),
        bbox_head=dict(in_channels=width, fc_out_channels=32),
        mask_roi_extractor=dict(out_channels=width),
        mask_head=dict(in_channels=width, conv_out_channels=width),
    ),
)
