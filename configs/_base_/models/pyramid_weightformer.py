# The pyramid of each size and the channels of its outputs, strides 4 to 32, under any head. A config says
#     model = dict(
#         backbone=_base_.pyramid_weightformer_tiny,
#         neck=dict(in_channels=_base_.pyramid_weightformer_tiny_channels),
#     )
# The drop path rates of tiny and larger are those of Swin's detectors.
#
# The pyramid has no released weights: it starts from random ones. To start from a classifier that was trained
# with configs/imagenet (it has the last of the four output norms only):
#     --cfg-options load_from.checkpoint=work_dirs/pyramid-weightformer-tiny_8xb128_in1k/epoch_300.pth
#         'load_from.allow_missing=norm*'
pyramid_weightformer_micro = dict(type='PyramidWeightFormer', arch='micro')
pyramid_weightformer_micro_channels = [32, 64, 128, 192]
pyramid_weightformer_nano = dict(type='PyramidWeightFormer', arch='nano', drop_path_rate=0.1)
pyramid_weightformer_nano_channels = [32, 64, 160, 256]
pyramid_weightformer_tiny = dict(type='PyramidWeightFormer', arch='tiny', drop_path_rate=0.2)
pyramid_weightformer_tiny_channels = [64, 128, 320, 512]
pyramid_weightformer_small = dict(type='PyramidWeightFormer', arch='small', drop_path_rate=0.2)
pyramid_weightformer_small_channels = [96, 192, 384, 640]
pyramid_weightformer_base = dict(type='PyramidWeightFormer', arch='base', drop_path_rate=0.3)
pyramid_weightformer_base_channels = [128, 256, 512, 768]
