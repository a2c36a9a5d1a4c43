_base_ = (
    '../../../configs/nuclei/mask-rcnn_pyramid-weightformer-micro_fpn_1xb8-50e_nuclei-256x256.py'
)

custom_imports = dict(imports=['weightformer_mm', 'projects.real_pictures.clock'])

# The short protocol: 6 epochs * 463 images / batch 4 = 696 iterations, half as many regions per image.
max_epochs = 6
model = dict(train_cfg=dict(rcnn=dict(sampler=dict(num=64))))
one_process = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(batch_size=4, **one_process)
test_dataloader = one_process

# evaluated once, after the training
train_cfg = dict(max_epochs=max_epochs)
val_dataloader = val_cfg = val_evaluator = None
default_hooks = dict(
    checkpoint=dict(interval=1, max_keep_ckpts=1),
    logger=dict(interval=10),
    clock=dict(type='ClockHook'),
)
