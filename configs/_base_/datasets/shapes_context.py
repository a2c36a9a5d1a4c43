# ContextShapes, generated: 1200 training and 200 validation images of 128x128 pixels. The class of an object
# is its shape and the colour of a band on the far side.
prepare_data = (
    'python tools/make_shapes.py --context --out data/shapes_context --train 1200 --val 200 '
    '--size 128'
)
dataset_type = 'BaseSegDataset'
data_root = 'data/shapes_context/'
metainfo = dict(
    classes=('background', 'disk_red', 'disk_blue', 'cross_red', 'cross_blue'),
    palette=[(90, 90, 90), (230, 60, 60), (65, 110, 230), (250, 150, 30), (60, 180, 200)],
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(
        type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']
    ),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
# no worker processes: the images are small, and a training has one core
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        reduce_zero_label=True,
        data_prefix=dict(img_path='images/train', seg_map_path='annotations/train'),
        img_suffix='.png',
        seg_map_suffix='.png',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=20,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        reduce_zero_label=True,
        data_prefix=dict(img_path='images/val', seg_map_path='annotations/val'),
        img_suffix='.png',
        seg_map_suffix='.png',
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = [dict(type='IoUMetric', iou_metrics=['mIoU']), dict(type='CueAccuracy')]
test_evaluator = val_evaluator
