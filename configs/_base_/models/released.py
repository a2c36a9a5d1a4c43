# The published networks with their released ImageNet-1K weights, on top of any head. A config says
#     model = dict(backbone=_base_.weightformer_tiny, neck=dict(type="SimpleFeaturePyramid", in_channels=192))
# base is the small network, trained at 448x448 pixels. docs/loading.md lists the other sources of weights.
weightformer_tiny = dict(
    type='WeightFormer',
    arch='tiny',
    init_cfg=dict(type='Pretrained', checkpoint='hf://RuizeHe/weightformer-t'),
)
weightformer_small = dict(
    type='WeightFormer',
    arch='small',
    drop_path_rate=0.2,
    init_cfg=dict(type='Pretrained', checkpoint='hf://RuizeHe/weightformer-s'),
)
weightformer_base = dict(
    type='WeightFormer',
    arch='base',
    drop_path_rate=0.2,
    init_cfg=dict(type='Pretrained', checkpoint='hf://RuizeHe/weightformer-b'),
)
