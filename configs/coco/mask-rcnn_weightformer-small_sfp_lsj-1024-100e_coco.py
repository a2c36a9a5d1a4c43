_base_ = './mask-rcnn_weightformer-tiny_sfp_lsj-1024-100e_coco.py'

# 100 epochs * 117266 images / batch 64 = 183300 iterations
model = dict(backbone=_base_.weightformer_small, neck=dict(in_channels=384))
