_base_ = [
    '../_base_/models/mask2former-panoptic.py',
    '../_base_/models/pyramid_weightformer.py',
    '../_base_/datasets/coco_panoptic.py',
    '../_base_/schedules/coco_1x.py',
]

# 50 epochs * 118287 images / batch 16 = 369650 iterations
model = dict(
    backbone=_base_.pyramid_weightformer_tiny,
    panoptic_head=dict(in_channels=_base_.pyramid_weightformer_tiny_channels),
)

# Large-scale jitter: 0.1 to 2 times the image at 1024 pixels, then a crop of at most 1024x1024.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadPanopticAnnotations'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomResize', scale=_base_.image_size, ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(
        type='RandomCrop',
        crop_size=_base_.image_size,
        crop_type='absolute',
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

# The backbone learns at a tenth of the rate; norms and embeddings have no weight decay.
max_epochs = 50
train_cfg = dict(max_epochs=max_epochs)
embedding = dict(decay_mult=0.0)
optim_wrapper = dict(
    clip_grad=dict(max_norm=0.01),
    paramwise_cfg=dict(
        custom_keys=dict(
            backbone=dict(lr_mult=0.1),
            query_embed=embedding,
            query_feat=embedding,
            level_embed=embedding,
        )
    ),
)
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=max_epochs, milestones=[44, 48], gamma=0.1)
]
