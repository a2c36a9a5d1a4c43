_base_ = './coco_detection.py'

# COCO 2017 with things and stuff: 80 and 53 classes. Images without things teach the stuff, so that all
# 118287 training images are used: 118287 / 16 = 7393 iterations an epoch. mmdet reads and evaluates
# segments with panopticapi: pip install git+https://github.com/cocodataset/panopticapi.git
load = dict(type='LoadPanopticAnnotations')
train_pipeline = _base_.train_pipeline
train_pipeline[1] = load
test_pipeline = _base_.test_pipeline
test_pipeline[2] = load

annotations = _base_.data_root + 'annotations/'
train_dataloader = dict(
    dataset=dict(
        type='CocoPanopticDataset',
        ann_file='annotations/panoptic_train2017.json',
        data_prefix=dict(seg='annotations/panoptic_train2017/'),
        filter_cfg=dict(filter_empty_gt=False),
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        type='CocoPanopticDataset',
        ann_file='annotations/panoptic_val2017.json',
        data_prefix=dict(seg='annotations/panoptic_val2017/'),
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(
    _delete_=True,
    type='CocoPanopticMetric',
    ann_file=annotations + 'panoptic_val2017.json',
    seg_prefix=annotations + 'panoptic_val2017/',
)
test_evaluator = val_evaluator
del load, annotations  # no keys of configs that are based on this one
