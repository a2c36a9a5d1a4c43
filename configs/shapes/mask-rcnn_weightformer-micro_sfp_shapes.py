_base_ = './mask-rcnn_pyramid-weightformer-micro_fpn_shapes.py'

model = dict(
    backbone=dict(_delete_=True, type='WeightFormer', arch=dict(embed_dims=128, depth=6)),
    neck=dict(
        _delete_=True, type='SimpleFeaturePyramid', in_channels=128, out_channels=48, num_outs=5
    ),
)
