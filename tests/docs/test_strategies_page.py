"""What docs/strategies.md shows works as it stands there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from tests.helpers.pages import blocks
from weightformer_mm.backbones import PyramidWeightFormer
from weightformer_mm.layers import KERNEL_PREDICTORS, WEIGHT_PREDICTORS

TEXT = (Path(__file__).parents[2] / 'docs/strategies.md').read_text()
CONFIG, EXAMPLE = blocks('docs/strategies.md')


@pytest.fixture
def example():
    """Run the page's code; take what it registers away again."""
    exec(compile(EXAMPLE, 'docs/strategies.md', 'exec'), {'__name__': 'docs'})
    yield
    del WEIGHT_PREDICTORS._factories['brightest']


def test_the_config_builds(tmp_path):
    (tmp_path / 'config.py').write_text(CONFIG)
    MODELS.build(Config.fromfile(tmp_path / 'config.py').model.backbone)


def test_a_strategy_of_ones_own_needs_nothing_but_its_class(example):
    arch = dict(embed_dims=(8, 16), depths=(3, 3))
    network = PyramidWeightFormer(arch, out_indices=1, dynamic_linear='brightest')
    (output,) = network(torch.randn(2, 3, 40, 33))
    output.backward(torch.randn_like(output))
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_every_strategy_has_a_row():
    linear, conv = TEXT.split('## Depthwise convolutions')
    for registry, part in ((WEIGHT_PREDICTORS, linear), (KERNEL_PREDICTORS, conv)):
        for name in registry.names():
            assert f'| `{name}` |' in part
