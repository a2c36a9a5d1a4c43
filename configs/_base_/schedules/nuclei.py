# As on Shapes, but longer, for images that are harder and more varied.
_base_ = './shapes.py'

max_epochs = 24
train_cfg = dict(max_epochs=max_epochs, val_interval=8)
auto_scale_lr = dict(base_batch_size=4)  # 1 GPU * 4 images
