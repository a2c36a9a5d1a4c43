_base_ = './coco_1x.py'

# As mmdet trains RTMDet with Swin and ConvNeXt: 100 epochs at batch 128, cosine decay from the 50th on.
max_epochs = 100
plain_epochs = 10  # without mosaic and mixup, at the end
train_cfg = dict(
    max_epochs=max_epochs, val_interval=10, dynamic_intervals=[(max_epochs - plain_epochs, 1)]
)
optim_wrapper = dict(
    optimizer=dict(lr=1e-3),
    paramwise_cfg=dict(bypass_duplicate=True),  # the levels share the head's convolutions
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-5, by_epoch=False, begin=0, end=1000),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.05,
        begin=max_epochs // 2,
        end=max_epochs,
        T_max=max_epochs // 2,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
# 8 GPUs * 16 images
auto_scale_lr = dict(base_batch_size=128)
