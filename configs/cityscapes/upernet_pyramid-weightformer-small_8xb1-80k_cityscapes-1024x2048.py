_base_ = './upernet_pyramid-weightformer-tiny_8xb1-80k_cityscapes-1024x2048.py'

model = dict(
    backbone=dict(arch='small', drop_path_rate=0.3),
    decode_head=dict(in_channels=[96, 192, 384, 640]),
    auxiliary_head=dict(in_channels=384),
)
