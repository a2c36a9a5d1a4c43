"""Later stages may keep the stride of an earlier one and dilate: the same weights on denser maps."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope

from tests.helpers.contract import MODES, build
from weightformer_mm.backbones import PyramidWeightFormer
from weightformer_mm.backbones.strategies import ATTENTION, PUBLISHED, STATIC, compared_strategies
from weightformer_mm.layers import fused

ARCH = dict(embed_dims=(8, 8, 12, 16), depths=(2, 2, 2, 2))  # dynamic blocks in stages 0, 2 and 3
STRIDES = {8: (4, 8, 8, 8), 16: (4, 8, 16, 16), 32: (4, 8, 16, 32)}
STRATEGIES = compared_strategies()
# odd sides, sides whose last stage would not divide the one before, one row, less than the dilation
SIZES = [(64, 96), (65, 97), (33, 47), (4, 70), (5, 6)]
each_strategy = pytest.mark.parametrize('strategy', STRATEGIES)


def dilated(strategy='published', **options):
    """In float64, with weights that are large enough for predictions to matter."""
    model = build(PyramidWeightFormer, ARCH, **{**STRATEGIES[strategy], **options}).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def draw(*size, batch=2):
    return torch.randn(batch, 3, *size, dtype=torch.float64, requires_grad=True)


def as_written(model):
    """The network with every module called, and nothing fused."""
    for module in model.modules():
        module.register_forward_hook(lambda *_: None)
    return model


def compare(found, expected, tolerance=1e-12):
    assert len(found) == len(expected)
    for one, truth in zip(found, expected):
        assert one.shape == truth.shape
        assert float((one - truth).norm()) <= tolerance * float(truth.norm())


@pytest.mark.parametrize('form', [lambda model: model, as_written], ids=['fused', 'modules'])
@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('output_stride', [8, 16])
def test_a_static_network_has_its_maps_at_every_second_pixel(output_stride, size, form):
    plain, model = dilated(STATIC), dilated(STATIC, output_stride=output_stride)
    model.load_state_dict(plain.state_dict())  # strictly: the same names and shapes
    image = draw(*size)
    maps = form(model)(image)
    assert model.out_strides == STRIDES[output_stride] and plain.out_strides == STRIDES[32]
    assert [tuple(one.shape[2:]) for one in maps] == model.output_sizes(size)
    assert all(one.is_contiguous() for one in maps)
    steps = [before // after for before, after in zip(plain.out_strides, model.out_strides)]
    compare([one[..., ::step, ::step] for one, step in zip(maps, steps)], plain(image))


@pytest.mark.parametrize('max_tokens', [1, 40])
@each_strategy
def test_strips_give_the_maps_of_the_whole_image(strategy, max_tokens):
    image = draw(71, 50)
    with torch.no_grad():
        expected = as_written(dilated(strategy, output_stride=8))(image)
        compare(dilated(strategy, output_stride=8, max_tokens=max_tokens)(image), expected)


def test_no_dilated_block_is_computed_whole(monkeypatch):
    seen = []
    convolve = fused.ops.depthwise_conv

    def watched(x, *args, **kwargs):
        seen.append(x.shape[1])
        return convolve(x, *args, **kwargs)

    monkeypatch.setattr(fused.ops, 'depthwise_conv', watched)
    with torch.no_grad():
        dilated(output_stride=8, max_tokens=20)(draw(160, 80))
    assert seen and max(seen) <= 2 + 2 * 4  # rows of a strip, and on each side four


@pytest.mark.parametrize('mode', MODES)
@each_strategy
def test_every_form_and_its_gradients_are_those_of_the_modules(strategy, mode):
    options = dict(output_stride=8)
    models = dilated(strategy, **options, **MODES[mode]), as_written(dilated(strategy, **options))
    image, results = draw(33, 47), []
    for model in models:
        outputs = model(image)
        inputs = image, *model.parameters()
        results.append(
            [*outputs, *torch.autograd.grad(sum(x.sin().sum() for x in outputs), inputs)]
        )
    compare(*results, 1e-9)


@pytest.mark.parametrize('strategy', [STATIC, PUBLISHED, 'conv-conv', ATTENTION])
def test_a_traced_network_is_right_for_other_sizes(strategy):
    model, image = dilated(strategy, output_stride=8), draw(33, 47)
    compare(torch.jit.trace(model, draw(96, 80), check_trace=False)(image), model(image), 1e-9)


@each_strategy
def test_maps_of_a_padded_batch_are_those_of_each_image_alone(strategy):
    model, sizes = dilated(strategy, output_stride=8), [(13, 22), (37, 19), (4, 5)]
    batch = torch.full((3, 3, 40, 31), 1e3, dtype=torch.float64)
    for place, (height, width) in zip(batch, sizes):
        place[:, :height, :width] = torch.randn(3, height, width)
    with torch.no_grad():
        outputs = model(batch, sizes=sizes)
        for index, (height, width) in enumerate(sizes):
            alone = model(batch[index : index + 1, :, :height, :width])
            rest = [maps[index].clone() for maps in outputs]
            for maps, one in zip(rest, alone):
                compare([maps[None, :, : one.shape[2], : one.shape[3]]], [one])
                maps[:, : one.shape[2], : one.shape[3]] = 0
                assert not maps.any()


def test_a_predictors_own_convolution_is_dilated_and_nothing_else_changes():
    model = dilated('conv-conv', output_stride=8)
    found = [
        {
            (module.dilation, module.padding)
            for module in stage.blocks.modules()
            if isinstance(module, torch.nn.Conv2d) and module.groups > 1
        }
        for stage in model.stages
    ]
    assert found == [{((d, d), (d, d))} for d in (1, 1, 2, 4)]
    assert any(hasattr(module, 'local') for module in model.stages[3].modules())
    plain = dilated('conv-conv', output_stride=32)
    assert [str(stage) for stage in plain.stages] == [
        str(stage) for stage in dilated('conv-conv').stages
    ]


@pytest.mark.parametrize('built', [0, 1, 2])
def test_stages_that_are_not_built_change_nothing(built):
    image = draw(40, 33)
    whole = dilated(output_stride=8)
    part = build(PyramidWeightFormer, ARCH, output_stride=8, out_indices=built).double().eval()
    part.load_state_dict(whole.state_dict(), strict=False)
    compare(part(image), whole(image)[built : built + 1])
    compare(whole.intermediates(image, [built]), part.intermediates(image, [built]))


def test_a_fifth_stage_goes_on_unless_it_is_told_otherwise():
    arch = dict(embed_dims=(4,) * 5, depths=(1,) * 5)
    options = dict(dynamic_linear='static', dynamic_conv='static', out_indices=range(5))
    assert build(PyramidWeightFormer, arch, **options).out_strides == (4, 8, 16, 32, 64)
    model = build(PyramidWeightFormer, arch, **options, output_stride=16)
    assert model.out_strides == (4, 8, 16, 16, 16) and model.dilations == (1, 1, 1, 2, 4)


def test_a_deeplab_of_mmseg_learns_from_it():
    pytest.importorskip('mmseg.models')
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    head = dict(
        type='ASPPHead',
        **dict(in_channels=16, in_index=3, channels=8, dilations=(1, 2, 4), num_classes=3),
        **dict(norm_cfg=dict(type='BN'), align_corners=False),
    )
    backbone = dict(type='PyramidWeightFormer', arch=ARCH, output_stride=8)
    with DefaultScope.overwrite_default_scope('mmseg'):
        parts = dict(backbone=backbone, decode_head=head, test_cfg=dict(mode='whole'))
        model = MODELS.build(ConfigDict(type='EncoderDecoder', **parts))
    images = torch.randn(2, 3, 65, 98)
    labels = [PixelData(data=torch.randint(3, (1, 65, 98))) for _ in images]
    samples = [
        SegDataSample(gt_sem_seg=label, metainfo=dict(img_shape=(65, 98), ori_shape=(65, 98)))
        for label in labels
    ]
    assert model(images).shape == (2, 3, 9, 13)
    losses = model(images, samples, mode='loss')
    losses['decode.loss_ce'].backward()
    missing = [name for name, value in model.named_parameters() if value.grad is None]
    assert all(name.startswith('backbone.norm') for name in missing), missing  # of unused outputs
    labelled = model.eval()(images, samples, mode='predict')
    assert labelled[0].pred_sem_seg.data.shape == (1, 65, 98)


def test_a_feature_pyramid_of_mmdet_takes_it():
    pytest.importorskip('mmdet.models')
    with DefaultScope.overwrite_default_scope('mmdet'):
        neck = dict(type='FPN', in_channels=list(ARCH['embed_dims']), out_channels=8, num_outs=5)
        neck = MODELS.build(neck)
    maps = neck(build(PyramidWeightFormer, ARCH, output_stride=16)(torch.randn(1, 3, 64, 97)))
    assert [tuple(one.shape[2:]) for one in maps] == [(16, 25), (8, 13), (4, 7), (4, 7), (2, 4)]


def test_attention_mixes_the_tokens_of_the_denser_map():
    model, seen = dilated(ATTENTION, output_stride=8), []
    model.stages[3].blocks[1].attention.register_forward_pre_hook(
        lambda module, args: seen.append(tuple(args[0].shape[1:3]))
    )
    model(draw(64, 96))
    assert seen == [(8, 12)]
