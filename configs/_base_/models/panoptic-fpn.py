# Panoptic FPN as mmdet's panoptic_fpn_r50_fpn has it: Mask R-CNN for things, a head on the same pyramid for
# stuff, and a rule that joins the two. For other data than COCO, a config adds the numbers of classes.
_base_ = './mask-rcnn_fpn.py'

classes = dict(num_things_classes=80, num_stuff_classes=53)
model = dict(
    type='PanopticFPN',
    data_preprocessor=dict(mask_pad_value=0, pad_seg=True, seg_pad_value=255),
    semantic_head=dict(
        type='PanopticFPNHead',
        in_channels=256,
        inner_channels=128,
        start_level=0,
        end_level=4,
        norm_cfg=dict(type='GN', num_groups=32, requires_grad=True),
        loss_seg=dict(type='CrossEntropyLoss', ignore_index=255, loss_weight=0.5),
        **classes,
    ),
    panoptic_fusion_head=dict(type='HeuristicFusionHead', **classes),
    test_cfg=dict(
        rcnn=dict(score_thr=0.6, nms=dict(class_agnostic=True)),
        panoptic=dict(mask_overlap=0.5, stuff_area_limit=4096),
    ),
)
tta_model = None  # mmdet joins views of boxes alone
del classes  # no keys of configs that are based on this one
