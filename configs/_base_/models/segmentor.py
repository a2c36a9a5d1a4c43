# What all segmentors share. test_cfg: the whole image at once; with
#     --cfg-options model.test_cfg.mode=slide
# windows of crop_size, whose neighbours overlap by a third.
model = dict(
    _scope_='mmseg',
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SizedSegDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(512, 512),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole', crop_size=(512, 512), stride=(341, 341)),
)
tta_model = dict(type='SegTTAModel')
