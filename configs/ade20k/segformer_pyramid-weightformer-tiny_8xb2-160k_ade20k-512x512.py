_base_ = [
    '../_base_/models/segformer.py',
    '../_base_/models/pyramid_weightformer.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/segmentation_160k.py',
]

# 160 000 iterations * batch 16 (8 GPUs * 2) / 20 210 images = 126.7 epochs
model = dict(
    backbone=_base_.pyramid_weightformer_tiny,
    decode_head=dict(in_channels=_base_.pyramid_weightformer_tiny_channels),
)
# SegFormer's protocol is this schedule with ten times the learning rate for the head
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'decode_head': dict(lr_mult=10.0, decay_mult=1.0)})
)
