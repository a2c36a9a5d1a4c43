"""Parameters and multiply-adds of the named architectures."""

from __future__ import annotations

import pytest
import torch

from tests.helpers import golden
from tests.helpers.contract import ARCH_IDS, ARCHS, build, multiply_adds
from weightformer_mm.backbones import PyramidWeightFormer, WeightFormer

# Design figures: parameters in millions, multiply-adds in billions at 800x1280.
PYRAMID = {
    'micro': (2.2, 7),
    'nano': (6.8, 19),
    'tiny': (27.0, 76),
    'small': (50.0, 153),
    'base': (84.2, 269),
}


SIZES = [(32, 32), (512, 512), (800, 1280)]


def unweighted(backbone, arch):
    """Without values, which would take longer to draw than everything here to count."""
    with torch.device('meta'):
        return build(backbone, arch)


def count_parameters(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_every_pyramid_arch_has_a_design_figure():
    assert set(PYRAMID) == set(PyramidWeightFormer.arch_settings)


@pytest.mark.parametrize('arch', PYRAMID)
def test_pyramid_parameters_and_multiply_adds(arch):
    parameters, cost = PYRAMID[arch]
    model = unweighted(PyramidWeightFormer, arch)
    assert count_parameters(model) / 1e6 == pytest.approx(parameters, rel=0.01)
    assert multiply_adds(model, 800, 1280) / 1e9 == pytest.approx(cost, rel=0.02)


@pytest.mark.parametrize('arch', WeightFormer.arch_settings)
def test_released_parameter_count(arch):
    model = unweighted(WeightFormer, arch)
    width = model.out_channels[0]
    assert count_parameters(model) + 1000 * width + 1000 == golden.released_shapes()[arch]['params']


@pytest.mark.parametrize(('backbone', 'arch'), ARCHS, ids=ARCH_IDS)
def test_cost_is_linear_in_the_pixels(backbone, arch):
    settings = backbone.arch_settings[arch]
    few = {'depths': (3, 3, 3, 3)} if 'depths' in settings else {'depth': 3}
    model = unweighted(backbone, {**settings, **few})  # all kinds of blocks, in all widths
    for height, width in SIZES:
        ratio = multiply_adds(model, 2 * height, 2 * width) / multiply_adds(model, height, width)
        assert 1 < ratio <= 4.05, (height, width)
