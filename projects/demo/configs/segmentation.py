_base_ = '../../../configs/shapes/upernet_pyramid-weightformer-micro_shapes.py'

# 10 epochs * 400 images / batch 4 = 1000 iterations
max_epochs = 10
train_cfg = dict(max_epochs=max_epochs, val_interval=2)
# fewer steps towards an orthogonal update take a tenth of the time away
optim_wrapper = dict(optimizer=dict(ns_steps=3))
# now and then, a glance at some of the images; the evaluation at the end takes all
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(indices=16))
# no worker processes: each training has one core
train_dataloader = dict(num_workers=0, persistent_workers=False)
