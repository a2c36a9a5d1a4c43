_base_ = [
    '../_base_/models/mask2former.py',
    '../_base_/models/pyramid_weightformer.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/segmentation_160k.py',
]
custom_imports = dict(imports=['weightformer_mm', 'mmdet.models'])

# 160 000 iterations * batch 16 (8 GPUs * 2) / 20 210 images = 126.7 epochs
model = dict(
    backbone=_base_.pyramid_weightformer_tiny,
    decode_head=dict(in_channels=_base_.pyramid_weightformer_tiny_channels),
)

# The short side is one of 16 lengths from 256 to 1024 pixels, as mmseg has it for this head.
train_pipeline = _base_.train_pipeline
train_pipeline[2] = dict(
    type='RandomChoiceResize',
    scales=[256, 307, 358, 409, 460, 512, 563, 614, 665, 716, 768, 819, 870, 921, 972, 1024],
    resize_type='ResizeShortestEdge',
    max_size=2048,
)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

# The backbone learns at a tenth of the rate; norms and embeddings have no weight decay. Longer keys
# come first.
depths = (3, 3, 15, 3)
backbone_norms = (
    ['norm']
    + [f'stages.{stage}.downsample.norm' for stage in range(len(depths))]
    + [
        f'stages.{stage}.blocks.{block}.norm'
        for stage, n in enumerate(depths)
        for block in range(n)
    ]
)
custom_keys = dict(
    backbone=dict(lr_mult=0.1),
    query_embed=dict(decay_mult=0.0),
    query_feat=dict(decay_mult=0.0),
    level_embed=dict(decay_mult=0.0),
    **{f'backbone.{norm}': dict(lr_mult=0.1, decay_mult=0.0) for norm in backbone_norms},
)
optim_wrapper = dict(
    optimizer=dict(lr=1e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=0.01),
    paramwise_cfg=dict(custom_keys=custom_keys),
)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, end=160000, by_epoch=False)]
