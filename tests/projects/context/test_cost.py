from __future__ import annotations

import pytest

from projects.context.cost import SIDES, backbone_cost
from weightformer_mm.backbones.strategies import compared_strategies

BACKBONE = dict(type='PyramidWeightFormer', arch='micro', out_indices=(0, 1))


def cost(name):
    return backbone_cost({**BACKBONE, **compared_strategies()[name]})


def test_the_static_network_costs_what_its_layers_say():
    side = 256
    stem = 27 * 16 * (side // 2) ** 2 + 9 * 16 * 32 * (side // 4) ** 2
    stage0 = 3 * (9 * 32 + 8 * 32**2) * (side // 4) ** 2
    stage1 = (9 * 32 * 64 + 3 * (9 * 64 + 8 * 64**2)) * (side // 8) ** 2
    assert cost('static').multiply_adds[side] == stem + stage0 + stage1


@pytest.mark.parametrize('side', SIDES)
def test_attention_is_counted_to_the_last_product(side):
    """Four projections and the two products with N x N scores, in place of a convolution."""
    expected = 0
    for width, tokens in ((32, (side // 4) ** 2), (64, (side // 8) ** 2)):
        expected += 4 * tokens * width**2 + 2 * tokens**2 * width - 9 * width * tokens
    difference = cost('attention').multiply_adds[side] - cost('static').multiply_adds[side]
    assert difference == expected


@pytest.mark.parametrize('name', [name for name in compared_strategies() if name != 'attention'])
def test_every_strategy_is_linear(name):
    counts = cost(name).multiply_adds
    assert counts[2048] <= 64 * counts[256]
    assert counts[2048] >= cost('static').multiply_adds[2048]
