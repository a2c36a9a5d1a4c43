# 12 epochs of AdamW, the learning rate a tenth after epochs 8 and 11, at batch 16, as mmdet trains Swin,
# except that biases have no weight decay either.
max_epochs = 12
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoopByImageSize')
test_cfg = dict(type='TestLoopByImageSize')
# bfloat16 on a GPU, float32 on a CPU; float32 on both: --cfg-options optim_wrapper.device_types=[]
optim_wrapper = dict(
    type='Bf16OptimWrapper',
    device_types=['cuda'],
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=max_epochs, milestones=[8, 11], gamma=0.1),
]
# the learning rate follows the batch: 8 GPUs * 2 images here
auto_scale_lr = dict(base_batch_size=16, enable=True)
