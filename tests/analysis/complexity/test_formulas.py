"""What is counted is what the closed formulas say, to the last digit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.helpers import formulas
from weightformer_mm.analysis.complexity import count_operations, measure
from weightformer_mm.backbones import PyramidWeightFormer, WeightFormer
from weightformer_mm.layers import DynamicDepthwiseConv2d, DynamicLinear
from weightformer_mm.layers.pattern import is_dynamic

SIZES = [(8, 8), (7, 10), (9, 5), (1, 6), (2, 1), (1, 1)]


def counted(model: nn.Module, x: torch.Tensor) -> int:
    with count_operations(model) as counts:
        model(x)
    assert not counts.not_counted
    return counts.total


@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize(('wide', 'out', 'reduction'), [(16, 64, 4), (18, 30, 4), (24, 8, 3)])
def test_bilateral_linear(batch, size, wide, out, reduction):
    layer = DynamicLinear(wide, out, reduction, strategy='bilateral')
    expected = batch * formulas.bilateral_linear(*size, wide, out, reduction)
    assert counted(layer, torch.randn(batch, *size, wide)) == expected


@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize(('channels', 'kernel_size'), [(12, 3), (7, 5), (4, 1)])
def test_adaptive_depthwise_conv(batch, size, channels, kernel_size):
    layer = DynamicDepthwiseConv2d(channels, kernel_size, strategy='adaptive')
    expected = batch * formulas.adaptive_depthwise_conv(*size, channels, kernel_size)
    assert counted(layer, torch.randn(batch, *size, channels)) == expected


@pytest.mark.parametrize('layer', [DynamicLinear(12, 20, strategy='static')], ids=['linear'])
def test_static_linear(layer):
    x = torch.randn(3, 5, 7, 12)
    assert counted(layer, x) == 3 * formulas.linear(5, 7, 12, 20)


@pytest.mark.parametrize(
    ('arch', 'shape'), [('tiny', (37, 53)), ('tiny', (800, 1280)), ('small', (64, 96))], ids=str
)
def test_weightformer(arch, shape):
    settings = WeightFormer.arch_settings[arch]
    dynamic = [is_dynamic(index) for index in range(settings['depth'])]
    expected = formulas.weightformer(*shape, settings['embed_dims'], dynamic)
    assert measure(WeightFormer(arch), shape).total.multiply_adds == expected


@pytest.mark.parametrize(
    ('arch', 'shape'), [('micro', (37, 53)), ('micro', (800, 1280)), ('tiny', (64, 96))], ids=str
)
def test_pyramid_weightformer(arch, shape):
    settings = PyramidWeightFormer.arch_settings[arch]
    indices = iter(range(sum(settings['depths'])))
    dynamic = [[is_dynamic(next(indices)) for _ in range(depth)] for depth in settings['depths']]
    expected = formulas.pyramid_weightformer(*shape, settings['embed_dims'], dynamic)
    assert measure(PyramidWeightFormer(arch), shape).total.multiply_adds == expected
