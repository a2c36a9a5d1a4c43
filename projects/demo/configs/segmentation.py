_base_ = '../../../configs/shapes/upernet_pyramid-weightformer-micro_shapes.py'

# 12 epochs * 400 images / batch 4 = 1200 iterations
max_epochs = 12
train_cfg = dict(max_epochs=max_epochs, val_interval=2)
# a short training needs large steps, and deep stages learn faster from a loss of their own;
# fewer steps towards an orthogonal update take a tenth of the time away
optim_wrapper = dict(optimizer=dict(lr=1e-2, fallback_lr_scale=1 / 10, ns_steps=3))
model = dict(auxiliary_head=dict(loss_decode=dict(loss_weight=4.0)))
# now and then, a glance at some of the images; the evaluation at the end takes all
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(indices=16))
# no worker processes: each training has one core
train_dataloader = dict(num_workers=0, persistent_workers=False)
# the rate falls along a line: from the first step on, and slowly at the end, where the metric rises most
param_scheduler = [
    _base_.param_scheduler[0],
    dict(type='PolyLR', power=1.0, eta_min=5e-6, by_epoch=True, convert_to_iter_based=True),
]
