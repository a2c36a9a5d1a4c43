"""The reach that is computed is the one that gradients show."""

from __future__ import annotations

import math
from pathlib import Path

import mmseg.models  # noqa: F401
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from projects.context.reach import static_reach
from weightformer_mm.backbones import PyramidWeightFormer, WeightFormer
from weightformer_mm.datasets import STATIC_REACH, ContextRules, render_sample
from weightformer_mm.layers import KERNEL_PREDICTORS, WEIGHT_PREDICTORS

CONFIG = Path(__file__).parents[3] / 'configs/context/fcn_pyramid-weightformer-micro_context.py'
STATIC = dict(dynamic_linear='static', dynamic_conv='static')
TOY = dict(embed_dims=(8, 8, 8, 8), depths=(3, 3, 3, 3))


def seen_by(outputs, image) -> torch.Tensor:
    """Which pixels have any gradient: bool ``(H, W)``."""
    # not of the sum, which a LayerNorm makes constant
    weighted = (outputs * torch.randn_like(outputs)).sum()
    (gradient,) = torch.autograd.grad(weighted, image, retain_graph=True)
    return gradient.abs().sum(dim=(0, 1)) > 0


def build_segmentor(**backbone):
    cfg = Config.fromfile(CONFIG).model
    cfg.backbone.update(backbone)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg)
    model.init_weights()
    return model.double()


def logits_of(model, image):
    return model.encode_decode(image, [dict(img_shape=image.shape[-2:])] * len(image))


@pytest.mark.parametrize(
    ('indices', 'output_stride'), [((0,), 32), ((0, 1), 32), ((2,), 32), ((2,), 8)], ids=str
)
def test_reach_of_a_pyramid_is_what_gradients_show(indices, output_stride):
    options = dict(out_indices=indices, output_stride=output_stride)
    model = PyramidWeightFormer(TOY, **options, **STATIC).double().eval()
    stride, reach = model.out_strides[-1], static_reach(model)
    side = 2 * stride * math.ceil((reach + 1) / stride)
    image = torch.randn(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    middle = side // 2
    seen = seen_by(model(image)[-1][..., middle // stride, middle // stride], image)
    rows, columns = seen.any(1).nonzero(), seen.any(0).nonzero()
    for axis in (rows, columns):
        assert max(middle - axis.min().item(), axis.max().item() - middle) == reach


def test_reach_of_an_isotropic_network():
    model = WeightFormer(dict(embed_dims=8, depth=3), **STATIC)
    assert static_reach(model) == 3 * 16 + 15
    image = torch.randn(1, 3, 144, 144, requires_grad=True)
    seen = seen_by(model(image)[0][..., 4, 4], image).any(0).nonzero()
    assert (seen.min(), seen.max()) == (64 - 48, 64 + 63)


@pytest.mark.parametrize('training', [True, False])
def test_reach_of_the_segmentor_is_what_gradients_show(training):
    model = build_segmentor(**STATIC).train(training)
    assert static_reach(model) == STATIC_REACH
    image = torch.randn(2, 3, 128, 128, dtype=torch.float64, requires_grad=True)
    logits = logits_of(model, image)
    farthest = 0
    for row in range(60, 68):  # the phases of both strides, 4 and 8
        seen = seen_by(logits[0, :, row, 64], image)
        rows, columns = seen.any(1).nonzero(), seen.any(0).nonzero()
        farthest = max(farthest, row - rows.min().item(), rows.max().item() - row)
        assert max(64 - columns.min().item(), columns.max().item() - 64) <= STATIC_REACH
    assert farthest == STATIC_REACH


@pytest.mark.parametrize('rules', [ContextRules(), ContextRules(cue_area=0.003)], ids=str)
def test_the_static_network_cannot_see_the_mark_and_the_published_pair_can(rules):
    networks = {'static': build_segmentor(**STATIC), 'published': build_segmentor()}
    for index in range(4):
        sample = render_sample(0, 'val', index, 128, context=rules)
        image = torch.from_numpy(sample.image).permute(2, 0, 1)[None].double().sub(128).div(64)
        image.requires_grad_()
        objects = torch.from_numpy(sample.instances > 0)
        for name, model in networks.items():
            seen = seen_by(logits_of(model, image)[0][:, objects], image)
            assert seen[sample.mark.window].any().item() is (name == 'published')
            assert seen[objects].all()


@pytest.mark.parametrize(
    'backbone',
    [
        *(dict(STATIC, dynamic_linear=name) for name in WEIGHT_PREDICTORS.names()),
        *(dict(STATIC, dynamic_conv=name) for name in KERNEL_PREDICTORS.names()),
        dict(token_mixer='attention'),
    ],
    ids=lambda backbone: '-'.join(backbone.values()),
)
def test_everything_else_reaches_everywhere(backbone):
    model = PyramidWeightFormer(TOY, out_indices=(0, 1), **backbone)
    assert static_reach(model) == (43 if backbone == STATIC else math.inf)


def test_what_it_cannot_compute_it_refuses():
    with pytest.raises(ValueError, match='expected a backbone of weightformer_mm'):
        static_reach(torch.nn.Conv2d(3, 3, 3))
    model = build_segmentor(**STATIC)
    model.decode_head.convs = torch.nn.BatchNorm2d(96)
    with pytest.raises(ValueError, match='the reach of BatchNorm2d is not known'):
        static_reach(model)
