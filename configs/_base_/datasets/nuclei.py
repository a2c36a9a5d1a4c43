# Cell nuclei in microscopy, BBBC038v1 (Caicedo et al.: Nucleus segmentation across imaging experiments: the
# 2018 Data Science Bowl, Nature Methods 2019), public domain (CC0), https://bbbc.broadinstitute.org/BBBC038:
# 670 images of 256x256 to 1040x1388 pixels, with up to 375 nuclei, mostly of 5 to 60 pixels. This command
# sets 67 of them aside for validation:
#     python tools/dataset_converters/nuclei.py stage1_train --out data/nuclei
dataset_type = 'CocoDataset'
data_root = 'data/nuclei/'
metainfo = dict(classes=('nucleus',), palette=[(250, 150, 30)])
crop_size = (256, 256)
max_per_img = 400  # objects of an image that are predicted and evaluated

# Dark images of fluorescence and bright ones of stained tissue: some are inverted. The square is full before
# it turns by 90 degrees, so that nothing leaves it. Rotate puts boxes one pixel beside their masks; the
# second crop, of the whole square, takes them from the masks.
crop = dict(type='RandomCrop', crop_type='absolute', crop_size=crop_size, allow_negative_crop=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='RandomChoice',
        transforms=[[dict(type='Resize', scale_factor=ratio)] for ratio in (0.75, 1.0, 1.5)],
    ),
    crop,
    dict(type='Pad', size=crop_size, pad_val=dict(img=(114, 114, 114))),
    dict(
        type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']
    ),
    dict(type='Rotate', prob=0.5, level=10, min_mag=90.0, max_mag=90.0),
    dict(**crop, recompute_bbox=True),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(2, 2)),
    dict(type='PhotoMetricDistortion'),
    dict(type='Invert', prob=0.25),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale_factor=1.0),  # keeps the size; the detector wants the factor
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale_factor=ratio) for ratio in (0.75, 1.0, 1.5)],
            [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
            [
                dict(
                    type='PackDetInputs',
                    meta_keys=(
                        'img_id',
                        'img_path',
                        'ori_shape',
                        'img_shape',
                        'scale_factor',
                        'flip',
                        'flip_direction',
                    ),
                )
            ],
        ],
    ),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        ann_file='train.json',
        data_prefix=dict(img='train/'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        ann_file='val.json',
        data_prefix=dict(img='val/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
# COCO's evaluator takes mAP at 100 detections whatever it is told, and mAP_50 and the others at the last of
# these numbers. classwise adds nucleus_precision: mask mAP at 400 detections.
val_evaluator = dict(
    type='CocoMetric',
    ann_file=data_root + 'val.json',
    metric=['bbox', 'segm'],
    classwise=True,
    proposal_nums=(1, 100, max_per_img),
)
test_evaluator = val_evaluator
