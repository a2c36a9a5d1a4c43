_base_ = './mask-rcnn_pyramid-weightformer-micro_fpn_shapes.py'

# The classifier of pyramid-weightformer-micro_shapes.py, trained with tools/train.py. It has the last of the
# four output norms only; the others begin anew.
model = dict(
    backbone=dict(
        init_cfg=dict(
            _delete_=True,
            type='Pretrained',
            checkpoint='work_dirs/pyramid-weightformer-micro_shapes/epoch_7.pth',
            allow_missing=['norm0.*', 'norm1.*', 'norm2.*'],
        )
    )
)
