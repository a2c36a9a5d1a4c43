_base_ = './upernet_weightformer-tiny_sfp_8xb2-160k_ade20k-512x512.py'

model = dict(backbone=_base_.weightformer_small, neck=dict(in_channels=384))
