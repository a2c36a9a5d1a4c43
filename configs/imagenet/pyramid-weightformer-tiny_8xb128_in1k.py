_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet.py',
]

# Drop path is ours for the pyramids: as Swin's of the same size, 0.2, 0.3 and 0.5.
model = dict(
    backbone=dict(type='PyramidWeightFormer', arch='tiny', out_indices=(3,), drop_path_rate=0.2),
    head=dict(in_channels=512),
)
