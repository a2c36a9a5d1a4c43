# As on Shapes, but longer, and with averaged weights (EMA), which are evaluated and saved. With gamma=10,
# they are an average over about the last tenth of the iterations so far.
_base_ = ['../segmentation.py', './shapes.py']

max_epochs = 100
train_cfg = dict(max_epochs=max_epochs, val_interval=10)
optim_wrapper = dict(optimizer=dict(lr=5e-3, fallback_lr_scale=1 / 5))
default_hooks = dict(
    checkpoint=dict(interval=10),
    ema=dict(type='EMAHook', ema_type='MomentumAnnealingEMA', gamma=10),
)
auto_scale_lr = dict(base_batch_size=8)  # 1 GPU * 8 images
