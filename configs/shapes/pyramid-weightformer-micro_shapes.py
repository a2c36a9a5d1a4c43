_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/models/from_scratch.py',
    '../_base_/datasets/shapes_classification.py',
    '../_base_/schedules/shapes.py',
]

model = dict(
    data_preprocessor=dict(num_classes=6),
    backbone=dict(
        type='PyramidWeightFormer', arch='micro', out_indices=(3,), init_cfg=_base_.scratch_init
    ),
    head=dict(in_channels=192, num_classes=6),
    train_cfg=None,  # no mixup: a few hundred iterations leave nothing to regularise
)

# 7 epochs * 1800 images / batch 32, full batches alone = 392 iterations
max_epochs = 7
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=5e-3, fallback_lr_scale=1 / 5))
