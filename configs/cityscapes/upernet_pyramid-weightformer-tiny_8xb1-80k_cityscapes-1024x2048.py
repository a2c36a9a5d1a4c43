_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/models/pyramid_weightformer.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/schedules/segmentation_80k.py',
]

# 80 000 iterations * batch 8 (8 GPUs * 1) / 2 975 images = 215.1 epochs: as many pixels as in the usual
# 160 000 iterations of 1024x1024. It uses GroupNorm, because with one image on one GPU the 1x1 level of the
# pyramid pooling is one value, which BatchNorm refuses. docs/cityscapes.md has the memory of a step.
channels = _base_.pyramid_weightformer_tiny_channels
norm_cfg = dict(type='GN', num_groups=32, requires_grad=True)
model = dict(
    data_preprocessor=dict(size=(1024, 2048)),
    backbone=dict(**_base_.pyramid_weightformer_tiny, memory_efficient=True),
    decode_head=dict(in_channels=channels, num_classes=19, norm_cfg=norm_cfg),
    auxiliary_head=dict(in_channels=channels[2], num_classes=19, norm_cfg=norm_cfg),
    test_cfg=dict(crop_size=(1024, 2048), stride=(683, 1365)),
)
auto_scale_lr = dict(base_batch_size=8)
