_base_ = '../../../configs/shapes/mask-rcnn_pyramid-weightformer-micro_fpn_shapes.py'

# 4 epochs * 400 images / batch 2 = 800 iterations
max_epochs = 4
train_cfg = dict(max_epochs=max_epochs, val_interval=1)
# fewer steps towards an orthogonal update take a tenth of the time away
optim_wrapper = dict(optimizer=dict(ns_steps=3))
# no worker processes: each training has one core
train_dataloader = dict(num_workers=0, persistent_workers=False)
# after each epoch, a glance at some images, whose truth comes with them; the evaluation at the end takes all
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        indices=16,
        pipeline=[
            *_base_.test_pipeline[:-1],
            dict(
                type='PackDetInputs',
                meta_keys=(*_base_.test_pipeline[-1]['meta_keys'], 'instances'),
            ),
        ],
    ),
)
val_evaluator = dict(ann_file=None)
