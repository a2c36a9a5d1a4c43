# Shapes, generated: 1800 training and 360 validation images of 64x64 pixels, each with one of six kinds of
# objects. None of them is in the sets for detection and segmentation.
prepare_data = (
    'python tools/make_shapes.py --single --out data/shapes_single --train 1800 --val 360 --size 64'
)
dataset_type = 'CustomDataset'
data_root = 'data/shapes_single/'
metainfo = dict(classes=('disk', 'ring', 'triangle', 'square', 'star', 'cross'))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    # with the flips all eight turns and mirrorings
    dict(type='Rotate', angle=90.0, prob=0.5),
    dict(
        type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']
    ),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/classes_train.txt',
        data_prefix='images/train',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/classes_val.txt',
        data_prefix='images/val',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1, 2))
test_evaluator = val_evaluator
