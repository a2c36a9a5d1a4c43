_base_ = './mask-rcnn_fpn.py'

# Mask R-CNN on one map of stride 16, as in ViTDet: a simple feature pyramid, two convolutions in the RPN,
# four in the box head, and LayerNorm over the channels in box and mask head.
norm_cfg = dict(type='LN2d', eps=1e-6)
model = dict(
    neck=dict(_delete_=True, type='SimpleFeaturePyramid', out_channels=256, num_outs=5),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=norm_cfg),
        mask_head=dict(norm_cfg=norm_cfg),
    ),
)
