_base_ = '../../../configs/camvid/upernet_pyramid-weightformer-micro_1xb8-80e_camvid-240x320.py'

# The short protocol: images and crops of half CamVid's sides, 16 epochs * 367 images / batch 8 = 736
# iterations. Predictions are made from images of half the side, enlarged, and evaluated at full size. The
# loss is cross-entropy alone: Lovasz-Softmax would take a fifth of the time of such a run.
size = (180, 240)
scale = (240, 180)
max_epochs = 16
train_pipeline = _base_.train_pipeline
train_pipeline[2].scale = scale
train_pipeline[3].crop_size = size
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = scale

model = dict(
    data_preprocessor=dict(size=size),
    decode_head=dict(
        loss_decode=dict(
            _delete_=True,
            type='CrossEntropyLoss',
            use_sigmoid=False,
            loss_weight=1.0,
            class_weight=_base_.class_weight,
        )
    ),
)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
train_cfg = dict(max_epochs=max_epochs)
