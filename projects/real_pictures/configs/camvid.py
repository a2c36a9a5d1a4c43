_base_ = '../../../configs/camvid/upernet_pyramid-weightformer-micro_1xb8-100e_camvid-360x480.py'

custom_imports = dict(
    imports=[
        'weightformer_mm',
        'projects.real_pictures.classwise_iou',
        'projects.real_pictures.clock',
    ]
)

# The short protocol: half the side, 16 epochs * 367 images / batch 8 = 736 iterations. Predictions are made
# from images of half the side and evaluated at full size.
size = (180, 240)
scale = (240, 180)
max_epochs = 16
train_pipeline = _base_.train_pipeline
train_pipeline[2].scale = scale
train_pipeline[3].crop_size = size
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = scale

model = dict(data_preprocessor=dict(size=size), test_cfg=dict(crop_size=size))
one_process = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(**one_process, dataset=dict(pipeline=train_pipeline))
test_dataloader = dict(
    **one_process,
    dataset=dict(data_prefix=dict(img_path='val', seg_map_path='valannot'), pipeline=test_pipeline),
)
test_evaluator = dict(type='ClasswiseIoU')

# evaluated once, after the training
train_cfg = dict(max_epochs=max_epochs)
val_dataloader = val_cfg = val_evaluator = None
default_hooks = dict(
    checkpoint=dict(interval=1, max_keep_ckpts=1),
    logger=dict(interval=10),
    clock=dict(type='ClockHook'),
)
