_base_ = './coco_instance.py'

# Large-scale jitter as in ViTDet: 0.1 to 2 times the image at 1024 pixels, then a crop of 1024x1024. The
# preprocessor pads training and test images to that square, with zeros after normalisation: if the pipeline
# padded it, a test image would have boxes beyond its border.
# 8 images on each of 8 GPUs = batch 64: 117266 / 64 = 1833 iterations an epoch.
image_size = (1024, 1024)
pad = dict(pad_size_divisor=1024)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomResize', scale=image_size, ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(
        type='RandomCrop',
        crop_type='absolute_range',
        crop_size=image_size,
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2)),
    dict(type='PackDetInputs'),
]
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = image_size
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1].transforms[0] = [
    dict(type='Resize', scale=(side, side), keep_ratio=True) for side in (768, 896, 1024)
]

train_dataloader = dict(batch_size=8, num_workers=8, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
