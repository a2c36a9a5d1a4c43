# The recipe, narrow and with one block per stage: the tests of the command lines train it.
_base_ = '../../configs/shapes/upernet_pyramid-weightformer-micro_shapes.py'
widths = [8, 16, 24, 32]
model = dict(
    backbone=dict(arch=dict(_delete_=True, embed_dims=widths, depths=[1, 1, 1, 1])),
    decode_head=dict(in_channels=widths, channels=16),
    auxiliary_head=dict(in_channels=24, channels=24),
)
