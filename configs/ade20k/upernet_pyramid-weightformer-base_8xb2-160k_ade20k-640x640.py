_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/models/pyramid_weightformer.py',
    '../_base_/datasets/ade20k_640.py',
    '../_base_/schedules/segmentation_160k.py',
]

# 160 000 iterations * batch 16 (8 GPUs * 2) / 20 210 images = 126.7 epochs
model = dict(
    data_preprocessor=dict(size=(640, 640)),
    backbone=_base_.pyramid_weightformer_base,
    decode_head=dict(in_channels=_base_.pyramid_weightformer_base_channels),
    auxiliary_head=dict(in_channels=_base_.pyramid_weightformer_base_channels[2]),
    test_cfg=dict(crop_size=(640, 640), stride=(426, 426)),
)
