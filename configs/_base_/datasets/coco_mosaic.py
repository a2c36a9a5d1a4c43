_base_ = './coco_instance.py'

# RTMDet-Ins' augmentation at 640 pixels: mosaic and mixup, but neither in the last epochs (plain_pipeline).
# 16 images on each of 8 GPUs = batch 128: 117266 / 128 = 917 iterations an epoch.
image_size = (640, 640)
grey = dict(img=(114, 114, 114))

load = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=False),
]
crop = dict(type='RandomCrop', crop_size=image_size, recompute_bbox=True, allow_negative_crop=True)
train_pipeline = [
    *load,
    dict(type='CachedMosaic', img_scale=image_size, pad_val=114.0),
    dict(type='RandomResize', scale=(1280, 1280), ratio_range=(0.1, 2.0), keep_ratio=True),
    crop,
    dict(type='YOLOXHSVRandomAug'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Pad', size=image_size, pad_val=grey),
    dict(
        type='CachedMixUp',
        img_scale=image_size,
        ratio_range=(1.0, 1.0),
        max_cached_images=20,
        pad_val=(114, 114, 114),
    ),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1)),
    dict(type='PackDetInputs'),
]
plain_pipeline = [
    *load,
    dict(type='RandomResize', scale=image_size, ratio_range=(0.1, 2.0), keep_ratio=True),
    crop,
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1)),
    dict(type='YOLOXHSVRandomAug'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Pad', size=image_size, pad_val=grey),
    dict(type='PackDetInputs'),
]
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = image_size
test_pipeline.insert(2, dict(type='Pad', pad_to_square=True, pad_val=grey))
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1].transforms[0] = [
    dict(type='Resize', scale=(side, side), keep_ratio=True) for side in (640, 320, 960)
]
tta_pipeline[1].transforms.insert(2, [dict(type='Pad', pad_to_square=True, pad_val=grey)])

train_dataloader = dict(
    batch_size=16,
    num_workers=8,
    batch_sampler=None,
    pin_memory=True,
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(batch_size=4, num_workers=4, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
