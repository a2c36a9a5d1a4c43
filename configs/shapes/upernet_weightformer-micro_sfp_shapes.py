_base_ = './upernet_pyramid-weightformer-micro_shapes.py'

model = dict(
    backbone=dict(_delete_=True, type='WeightFormer', arch=dict(embed_dims=128, depth=6)),
    neck=dict(type='SimpleFeaturePyramid', in_channels=128, out_channels=64),
    decode_head=dict(in_channels=[64, 64, 64, 64]),
    auxiliary_head=dict(in_channels=64, channels=64),
)
