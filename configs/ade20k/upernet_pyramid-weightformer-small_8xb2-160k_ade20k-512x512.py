_base_ = './upernet_pyramid-weightformer-tiny_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=_base_.pyramid_weightformer_small,
    decode_head=dict(in_channels=_base_.pyramid_weightformer_small_channels),
    auxiliary_head=dict(in_channels=_base_.pyramid_weightformer_small_channels[2]),
)
