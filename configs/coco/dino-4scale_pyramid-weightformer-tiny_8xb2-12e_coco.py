_base_ = [
    '../_base_/models/dino-4scale.py',
    '../_base_/models/pyramid_weightformer.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/coco_1x.py',
]

# DINO's protocol: it uses images without objects, too.
# 12 epochs * 118287 images / batch 16 = 88716 iterations
model = dict(
    backbone=dict(_base_.pyramid_weightformer_tiny, out_indices=(1, 2, 3)),
    neck=dict(in_channels=_base_.pyramid_weightformer_tiny_channels[1:]),
)

# DETR's crops, of images that may be longer before the crop
train_pipeline = _base_.multi_scale_pipeline
train_pipeline[3].transforms[1][0].scales = [(400, 4200), (500, 4200), (600, 4200)]
train_dataloader = dict(
    dataset=dict(filter_cfg=dict(filter_empty_gt=False), pipeline=train_pipeline)
)

# A tenth of the learning rate suits a pretrained backbone. For one that starts from random weights:
#     --cfg-options optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult=1
optim_wrapper = dict(
    optimizer=dict(lr=1e-4, weight_decay=1e-4),
    paramwise_cfg=dict(_delete_=True, custom_keys=dict(backbone=dict(lr_mult=0.1))),
    clip_grad=dict(max_norm=0.1),
)
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[11], gamma=0.1)
]
