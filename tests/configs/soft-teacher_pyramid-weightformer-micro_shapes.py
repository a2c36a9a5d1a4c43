# mmdet's semi-supervised recipe with a narrow backbone, on small pictures.
_base_ = 'mmdet::soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py'
custom_imports = dict(imports=['weightformer_mm'])
data_root = 'data/shapes/'
widths = [8, 16, 24, 32]
width = 16
scale = [(64, 64), (96, 96)]

detector = _base_.model.detector
detector.data_preprocessor.type = 'SizedDetDataPreprocessor'
detector.backbone = dict(
    type='PyramidWeightFormer', arch=dict(embed_dims=widths, depths=[1, 1, 1, 1])
)
detector.neck.update(dict(in_channels=widths, out_channels=width))
detector.rpn_head.update(dict(in_channels=width, feat_channels=width))
detector.roi_head.bbox_roi_extractor.out_channels = width
detector.roi_head.bbox_head.update(dict(in_channels=width, fc_out_channels=32, num_classes=6))
model = dict(detector=detector)

own = dict(
    data_root=data_root,
    metainfo=dict(classes=('disk', 'ring', 'triangle', 'square', 'star', 'cross')),
)
train = dict(ann_file='annotations/instances_train.json', data_prefix=dict(img='images/train/'))
labeled_dataset = _base_.labeled_dataset
labeled_dataset.update(own, **train)
labeled_dataset.pipeline[2].scale = scale
unlabeled_dataset = _base_.unlabeled_dataset
unlabeled_dataset.update(own, **train)
for branch in ('unsup_teacher', 'unsup_student'):
    unlabeled_dataset.pipeline[2][branch][0].scale = scale
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(datasets=[labeled_dataset, unlabeled_dataset]),
)
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (96, 96)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='images/val/'),
        pipeline=test_pipeline,
        **own,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator
train_cfg = dict(max_iters=2, val_interval=2)
