_base_ = './coco_1x.py'

# 36 epochs, the learning rate a tenth after epochs 27 and 33
max_epochs = 36
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = max_epochs
param_scheduler[1].milestones = [27, 33]
