_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/schedules/segmentation_80k.py',
]

# 80 000 iterations * batch 8 (8 GPUs * 1) / 2 975 images = 215.1 epochs: as many pixels as in the usual 160 000
# iterations of 1024x1024.
model = dict(
    data_preprocessor=dict(size=(1024, 2048)),
    backbone=dict(
        type='PyramidWeightFormer', arch='tiny', drop_path_rate=0.2, memory_efficient=True
    ),
    decode_head=dict(in_channels=[64, 128, 320, 512], num_classes=19),
    auxiliary_head=dict(in_channels=320, num_classes=19),
    test_cfg=dict(crop_size=(1024, 2048), stride=(683, 1365)),
)
auto_scale_lr = dict(base_batch_size=8)
