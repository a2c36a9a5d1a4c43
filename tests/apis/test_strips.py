"""Segmentors label a huge image strip by strip: as the whole image, or not at all."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmseg.structures import SegDataSample
from torch import nn

from tests.helpers.commands import CLASSIFICATION, DETECTION
from weightformer_mm.apis import init_model, lazy_maps
from weightformer_mm.apis.strips import check_strips, lazy_logits, predict_in_strips
from weightformer_mm.errors import UserError
from weightformer_mm.evaluation.predictions import as_plain

WIDTHS = [8, 12, 16, 20]
NORMS = {
    'none': None,
    'BN': dict(type='BN'),
    'GN': dict(type='GN', num_groups=2),
}
FPN = dict(type='FPN', in_channels=WIDTHS, out_channels=8, num_outs=4)
ALL = dict(in_channels=WIDTHS, in_index=[0, 1, 2, 3], channels=8)
FPN_HEAD = dict(ALL, type='FPNHead', in_channels=[8] * 4, feature_strides=[4, 8, 16, 32])
HEADS = {
    'fcn': dict(type='FCNHead', in_channels=12, in_index=1, channels=8, num_convs=2),
    'fcn-dilated': dict(
        type='FCNHead', in_channels=16, in_index=-2, channels=8, dilation=3, concat_input=False
    ),
    'fcn-1x1': dict(
        **dict(type='FCNHead', num_convs=0, concat_input=False, input_transform='resize_concat'),
        **dict(in_channels=WIDTHS[:2], in_index=[0, 1], channels=20),
    ),
    'upernet': dict(ALL, type='UPerHead'),
    'segformer': dict(ALL, type='SegformerHead'),
    'sem-fpn': FPN_HEAD,
}
NECKS = {'sem-fpn': FPN}
SIZES = [(64, 96), (75, 58), (33, 131)]
each_head = pytest.mark.parametrize('head', HEADS)


@torch.no_grad()
def build(head: dict, neck: dict | None = None, **options) -> nn.Module:
    """A segmentor of mmseg in float64, with random weights and statistics, whose labels vary."""
    arch = dict(embed_dims=WIDTHS, depths=(1, 1, 1, 1))
    torch.manual_seed(0)
    model = dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor'),
        backbone=dict(type='PyramidWeightFormer', arch=arch),
        neck=neck,
        decode_head=dict(dict(num_classes=5), **head),
        test_cfg=dict(mode='whole'),
    )
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(ConfigDict({**model, **options})).double().eval()
    for module in model.decode_head.modules():
        if getattr(module, 'running_mean', None) is not None:
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    bias = model.decode_head.conv_seg.bias
    bias -= model(torch.randn(1, 3, 64, 64).double()).mean(
        (0, 2, 3)
    )  # no class is always the largest
    # mmseg's preprocessor makes float32 of an image
    as_double = lambda module, args, data: {**data, 'inputs': data['inputs'].double()}  # noqa: E731
    model.data_preprocessor.register_forward_hook(as_double)
    return model


def batch(size, ori_shape=None, **meta) -> dict:
    """What a test pipeline gives for a random image."""
    image = torch.randn(3, *size, generator=torch.Generator().manual_seed(0))
    meta = dict(img_shape=size, ori_shape=ori_shape or size, **meta)
    return dict(inputs=[image], data_samples=[SegDataSample(metainfo=meta)])


def compare(model, data, monkeypatch, max_tokens) -> SegDataSample:
    """Labels and logits of strips and of the whole image."""
    with torch.no_grad():
        (whole,) = model.test_step(data)
        monkeypatch.setattr(lazy_maps, 'MAX_TOKENS', max_tokens)
        (found,) = predict_in_strips(model, data)
        data = model.data_preprocessor(data)
        logits = lazy_logits(model, data['inputs'], data['data_samples'][0].metainfo)
        logits = torch.cat([logits.rows(*strip) for strip in logits.strips()], dim=2)[0]
    expected = whole.seg_logits.data
    logits = logits.sigmoid() if len(logits) == 1 else logits
    assert logits.shape == expected.shape
    assert float((logits - expected).norm()) <= 1e-12 * float(expected.norm())
    assert 'seg_logits' not in found and found.pred_sem_seg.data.dtype == torch.uint8
    assert torch.equal(found.pred_sem_seg.data, whole.pred_sem_seg.data.to(torch.uint8))
    plain = as_plain(found, 'abcde')
    assert plain == as_plain(whole, 'abcde') and len(plain['labels']) > 1
    return found


@pytest.mark.parametrize('max_tokens', [1, 70, 400])
@pytest.mark.parametrize('norm', NORMS)
@each_head
def test_strips_give_the_labels_of_the_whole_image(head, norm, max_tokens, monkeypatch):
    model = build(dict(HEADS[head], norm_cfg=NORMS[norm]), NECKS.get(head))
    check_strips(model)
    for size in SIZES:
        compare(model, batch(size), monkeypatch, max_tokens)


@each_head
def test_aligned_corners(head, monkeypatch):
    model = build(dict(HEADS[head], align_corners=True), NECKS.get(head))
    compare(model, batch((75, 58)), monkeypatch, 100)


@pytest.mark.parametrize('mode', ['nearest', 'bilinear'])
def test_a_neck_with_norms_and_fewer_levels(mode, monkeypatch):
    neck = dict(FPN, num_outs=3, start_level=1, upsample_cfg=dict(mode=mode), norm_cfg=NORMS['GN'])
    head = dict(FPN_HEAD, in_channels=[8] * 3, in_index=[0, 1, 2], feature_strides=[8, 16, 32])
    compare(build(head, neck), batch((75, 58)), monkeypatch, 100)


@pytest.mark.parametrize('ori_shape', [(150, 93), (30, 29)])
def test_padding_is_cut_off_and_the_size_is_that_of_the_file(ori_shape, monkeypatch):
    padding = dict(type='SegDataPreProcessor', test_cfg=dict(size_divisor=32))
    model = build(HEADS['upernet'], data_preprocessor=padding)
    found = compare(model, batch((75, 58), ori_shape), monkeypatch, 100)
    assert found.pred_sem_seg.shape == ori_shape and found.img_padding_size == (0, 6, 0, 21)


def test_one_channel_has_a_threshold(monkeypatch):
    head = dict(HEADS['sem-fpn'], num_classes=2, out_channels=1, threshold=0.4)
    compare(build(head, FPN), batch((75, 58)), monkeypatch, 100)


def test_many_classes():
    (found,) = predict_in_strips(build(dict(HEADS['fcn'], num_classes=300)), batch((32, 32)))
    assert found.pred_sem_seg.data.dtype == torch.int64


def test_no_map_of_the_head_is_whole(monkeypatch):
    """A map of 75x58 tokens; 100 tokens are a row, and convolutions and resizing add six."""
    monkeypatch.setattr(lazy_maps, 'MAX_TOKENS', 100)
    model, seen = build(HEADS['upernet']), []
    for module in model.decode_head.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, args, out: seen.append(out.shape[2]))
    predict_in_strips(model, batch((300, 232)))
    assert seen and max(seen) <= 7 + 10  # and ten rows of the coarsest map, for the pools


REFUSED = {
    'mmseg.PSPHead': (dict(type='PSPHead', in_channels=20, channels=8), {}),
    'mmseg.DepthwiseSeparableFCNHead': (
        dict(HEADS['fcn'], type='DepthwiseSeparableFCNHead', norm_cfg=NORMS['BN']),
        {},
    ),
    'mmseg.MultiLevelNeck': (
        FPN_HEAD,
        dict(neck=dict(type='MultiLevelNeck', in_channels=WIDTHS, out_channels=8)),
    ),
    'extra levels in an FPN': (FPN_HEAD, dict(neck=dict(FPN, num_outs=5))),
    'a scale_factor in an FPN': (
        FPN_HEAD,
        dict(neck=dict(FPN, upsample_cfg=dict(scale_factor=2.0, mode='nearest'))),
    ),
    'bicubic interpolation in an FPN': (
        FPN_HEAD,
        dict(neck=dict(FPN, upsample_cfg=dict(mode='bicubic'))),
    ),
    'bicubic interpolation in a SegformerHead': (
        dict(HEADS['segformer'], interpolate_mode='bicubic'),
        {},
    ),
    'InstanceNorm2d(8, ': (dict(HEADS['fcn'], norm_cfg=dict(type='IN')), {}),
    'slide mode': (
        HEADS['fcn'],
        dict(test_cfg=dict(mode='slide', crop_size=(32, 32), stride=(32, 32))),
    ),
    'Conv2d(12, 8, kernel_size=(4, 4)': (dict(HEADS['fcn'], kernel_size=4, concat_input=False), {}),
}


@pytest.mark.parametrize('what', REFUSED)
def test_what_is_not_exact_is_refused(what):
    head, options = REFUSED[what]
    model = build(head, **options)
    with pytest.raises(UserError) as refused:
        check_strips(model)
    line = str(refused.value)
    assert line.startswith(f'no strips for {what}') and line.endswith(': run it without strips')
    assert '\n' not in line


@pytest.mark.parametrize('config', [DETECTION, CLASSIFICATION])
def test_only_segmentors(config):
    with pytest.raises(UserError, match='no strips for mm(det.MaskRCNN|pretrain.ImageClassifier)'):
        check_strips(init_model(config, device='cpu'))


def test_flipped_images_are_refused():
    with pytest.raises(UserError, match='no strips for flipped images'):
        predict_in_strips(build(HEADS['fcn']), batch((32, 32), flip=True))
