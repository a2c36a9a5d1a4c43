_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/models/released.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/segmentation_160k.py',
]

# 160 000 iterations * batch 16 (8 GPUs * 2) / 20 210 images = 126.7 epochs
model = dict(
    backbone=_base_.weightformer_tiny,
    neck=dict(type='SimpleFeaturePyramid', in_channels=192, out_channels=256),
    decode_head=dict(in_channels=[256, 256, 256, 256]),
    auxiliary_head=dict(in_channels=256),
)
# The pretrained layers change the less, the nearer they are to the image: the stem's learning rate is
# 0.9 ** 18 = 0.15 of the heads'. Rate, learning rate and weight decay are ours, in the range of plain ViTs.
optim_wrapper = dict(
    constructor='LayerDecayOptimWrapperConstructor',
    optimizer=dict(lr=1e-4, weight_decay=0.05),
    paramwise_cfg=dict(_delete_=True, layer_decay_rate=0.9),
)
