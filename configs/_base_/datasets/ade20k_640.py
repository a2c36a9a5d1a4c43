# ADE20K at 640 instead of 512 pixels.
_base_ = './ade20k.py'

crop_size = (640, 640)
test_scale = (2560, 640)
train_pipeline = _base_.train_pipeline
train_pipeline[2].scale = test_scale
train_pipeline[3].crop_size = crop_size
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = test_scale
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1].transforms[0] = [
    dict(
        type='Resize',
        scale=(int(ratio * test_scale[0]), int(ratio * test_scale[1])),
        keep_ratio=True,
    )
    for ratio in _base_.tta_ratios
]
