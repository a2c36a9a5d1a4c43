_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet.py',
]

model = dict(backbone=dict(type='WeightFormer', arch='tiny'), head=dict(in_channels=192))
