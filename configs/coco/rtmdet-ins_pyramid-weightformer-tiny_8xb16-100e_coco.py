_base_ = [
    '../_base_/models/rtmdet-ins.py',
    '../_base_/models/pyramid_weightformer.py',
    '../_base_/datasets/coco_mosaic.py',
    '../_base_/schedules/coco_rtmdet.py',
]

# 100 epochs * 117266 images / batch 128 = 91700 iterations
model = dict(
    backbone=dict(_base_.pyramid_weightformer_tiny, out_indices=(1, 2, 3)),
    neck=dict(in_channels=_base_.pyramid_weightformer_tiny_channels[1:]),
)

custom_hooks = [
    dict(
        type='EMAHook',
        ema_type='ExpMomentumEMA',
        momentum=0.0002,
        update_buffers=True,
        priority=49,
    ),
    dict(
        type='PipelineSwitchHook',
        switch_epoch=_base_.max_epochs - _base_.plain_epochs,
        switch_pipeline=_base_.plain_pipeline,
    ),
]
