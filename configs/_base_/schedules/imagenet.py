# The released recipe: AdamW, warm-up for 20 epochs, then cosine decay. 300 epochs * 1281167 images / batch
# 1024 = 375300 iterations. The release does not state where warm-up starts and decay ends: these are ours.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4 * 1024 / 512, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, end=20, by_epoch=True, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.01,
        begin=20,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
# the learning rate follows the batch: 8 GPUs * 128 images here
auto_scale_lr = dict(base_batch_size=1024, enable=True)
