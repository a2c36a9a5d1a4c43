# The recipe, narrow and with one block per stage: the tests of the command lines train it.
_base_ = '../../configs/shapes/pyramid-weightformer-micro_shapes.py'
model = dict(
    backbone=dict(arch=dict(_delete_=True, embed_dims=[8, 16, 24, 32], depths=[1, 1, 1, 1])),
    head=dict(in_channels=32),
)
