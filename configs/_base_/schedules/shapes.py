# Muon on the matrices and NAdamW on the rest, a short warm-up, cosine decay: from scratch, Muon needs less
# than half the iterations that AdamW needs. 9 epochs * 400 images / batch 2 = 1800 iterations.
max_epochs = 9
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='TimmOptimizer',
        opt='nmuon',
        lr=3e-3,
        momentum=0.9,
        weight_decay=0.05,
        fallback_lr_scale=1 / 3,  # NAdamW's learning rate: 1e-3
    ),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(  # to the end of the training, however long it is
        type='CosineAnnealingLR', eta_min_ratio=0.01, by_epoch=True, convert_to_iter_based=True
    ),
]
randomness = dict(seed=0)
