_base_ = './upernet_pyramid-weightformer-tiny_8xb1-80k_cityscapes-1024x2048.py'

model = dict(
    backbone=_base_.pyramid_weightformer_small,
    decode_head=dict(in_channels=_base_.pyramid_weightformer_small_channels),
    auxiliary_head=dict(in_channels=_base_.pyramid_weightformer_small_channels[2]),
)
