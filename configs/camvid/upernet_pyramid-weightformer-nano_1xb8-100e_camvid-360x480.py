_base_ = './upernet_pyramid-weightformer-micro_1xb8-100e_camvid-360x480.py'

# 100 epochs * 367 images / batch 8 = 4600 iterations
channels = _base_.pyramid_weightformer_nano_channels
model = dict(
    backbone=_base_.pyramid_weightformer_nano,
    decode_head=dict(in_channels=channels),
    auxiliary_head=dict(in_channels=channels[2]),
)
