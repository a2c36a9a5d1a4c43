_base_ = (
    '../../../configs/nuclei/mask-rcnn_pyramid-weightformer-micro_fpn_1xb4-24e_nuclei-256x256.py'
)

# The short protocol: 6 epochs * 463 images / batch 4 = 696 iterations, half as many regions per image.
max_epochs = 6
model = dict(train_cfg=dict(rcnn=dict(sampler=dict(num=64))))
train_cfg = dict(max_epochs=max_epochs)
