_base_ = './coco_1x.py'

# ViTDet's schedule: 100 epochs, the learning rate a tenth after epochs 88 and 96, and lower for each layer of
# the backbone towards the image. Our rate is for 17 layers, between ViTDet's for 12 (0.7) and for 24 (0.8).
layer_decay_rate = 0.75
max_epochs = 100
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
optim_wrapper = dict(
    constructor='LayerDecayOptimWrapperConstructor',
    optimizer=dict(weight_decay=0.1),
    paramwise_cfg=dict(_delete_=True, layer_decay_rate=layer_decay_rate),
)
param_scheduler = _base_.param_scheduler
param_scheduler[0].end = 250
param_scheduler[1].end = max_epochs
param_scheduler[1].milestones = [88, 96]
# 8 GPUs * 8 images
auto_scale_lr = dict(base_batch_size=64)
