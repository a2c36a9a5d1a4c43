# Swin's protocol for UPerNet on ADE20K: AdamW, 160 000 iterations of 16 images, 1 500 of warm-up, then linear
# decay to 0.
_base_ = '../segmentation.py'

train_cfg = dict(type='IterBasedTrainLoop', max_iters=160000, val_interval=16000)
val_cfg = dict(type='ValLoopByImageSize')
test_cfg = dict(type='TestLoopByImageSize')
# bfloat16 on a GPU, float32 on a CPU; float32 on both: --cfg-options optim_wrapper.device_types=[]
optim_wrapper = dict(
    type='Bf16OptimWrapper',
    device_types=['cuda'],
    optimizer=dict(type='AdamW', lr=6e-5, weight_decay=0.01),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=1500, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=1500, end=160000, by_epoch=False),
]
# the learning rate follows the batch: 8 GPUs * 2 images here
auto_scale_lr = dict(base_batch_size=16, enable=True)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False), checkpoint=dict(by_epoch=False, interval=4000)
)
log_processor = dict(by_epoch=False)
