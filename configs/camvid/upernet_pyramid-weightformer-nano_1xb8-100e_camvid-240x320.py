_base_ = './upernet_pyramid-weightformer-micro_1xb8-80e_camvid-240x320.py'

# 100 epochs * 367 images / batch 8 = 4600 iterations
max_epochs = 100
train_cfg = dict(max_epochs=max_epochs)
channels = _base_.pyramid_weightformer_nano_channels
model = dict(
    backbone=_base_.pyramid_weightformer_nano,
    decode_head=dict(in_channels=channels),
    auxiliary_head=dict(in_channels=channels[2]),
)
