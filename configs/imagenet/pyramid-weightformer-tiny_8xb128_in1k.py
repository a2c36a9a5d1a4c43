_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet.py',
]

# The drop path rates of the pyramids are ours: 0.2, 0.3 and 0.5, as in Swin of the same size.
model = dict(
    backbone=dict(type='PyramidWeightFormer', arch='tiny', out_indices=(3,), drop_path_rate=0.2),
    head=dict(in_channels=512),
)
