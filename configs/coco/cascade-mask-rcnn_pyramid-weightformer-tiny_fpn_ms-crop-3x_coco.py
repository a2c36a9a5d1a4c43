_base_ = [
    '../_base_/models/cascade-mask-rcnn_fpn.py',
    '../_base_/models/pyramid_weightformer.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/coco_3x.py',
]

# 36 epochs * 117266 images / batch 16 = 263880 iterations
model = dict(
    backbone=_base_.pyramid_weightformer_tiny,
    neck=dict(in_channels=_base_.pyramid_weightformer_tiny_channels),
)
train_dataloader = dict(dataset=dict(pipeline=_base_.multi_scale_pipeline))
