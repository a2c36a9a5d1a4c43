_base_ = './weightformer-small_8xb128_in1k.py'

model = dict(backbone=dict(arch='base'))

# the small network, at 448 pixels
train_pipeline = _base_.train_pipeline
train_pipeline[1].scale = 448
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = 512
test_pipeline[2].crop_size = 448
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
