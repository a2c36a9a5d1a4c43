_base_ = [
    '../_base_/models/fcn.py',
    '../_base_/models/from_scratch.py',
    '../_base_/datasets/shapes_context.py',
    '../_base_/schedules/shapes.py',
]

custom_imports = dict(imports=['weightformer_mm', 'projects.context.cue_accuracy'])

# Two stages: with static strategies, an output then depends only on the 56 pixels around it, and the
# generator keeps every object farther than that from the band.
model = dict(
    backbone=dict(
        type='PyramidWeightFormer',
        arch='micro',
        out_indices=(0, 1),
        init_cfg=_base_.scratch_init,
    ),
    decode_head=dict(in_channels=[32, 64], channels=96, num_classes=5),
)

# 2 epochs * 1200 images / batch 8 = 300 iterations
max_epochs = 2
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=5e-3, fallback_lr_scale=1 / 5))
