_base_ = [
    '../_base_/models/segformer.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/segmentation_160k.py',
]

# 160 000 iterations * batch 16 (8 GPUs * 2) / 20 210 images = 126.7 epochs
model = dict(
    backbone=dict(type='PyramidWeightFormer', arch='tiny', drop_path_rate=0.2),
    decode_head=dict(in_channels=[64, 128, 320, 512]),
)
# SegFormer's protocol is that of the schedule, but for the head's learning rate and its norms' decay
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'decode_head': dict(lr_mult=10.0, decay_mult=1.0)})
)
