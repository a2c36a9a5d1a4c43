"""The whole network against numbers computed by the published code in float64."""

from __future__ import annotations

import pytest

from tests.helpers import golden
from weightformer_mm.backbones import WeightFormer
from weightformer_mm.checkpoints import convert_released


@pytest.fixture(scope='module')
def reference():
    return golden.load('weightformer_micro_128')


@pytest.fixture(scope='module')
def weights(reference):
    return convert_released(golden.part(reference, 'param'))


def backbone_part(weights):
    return {name: value for name, value in weights.items() if not name.startswith('head.')}


def tokens(feature_map):
    return feature_map.flatten(2).transpose(1, 2)  # (B, C, H, W) -> (B, N, C)


def test_logits_and_final_tokens(reference, weights):
    model = WeightFormer(arch=dict(embed_dims=32, depth=5)).double()
    model.load_state_dict(backbone_part(weights), strict=True)
    (output,) = model(reference['input'])
    logits = output.mean(dim=(2, 3)) @ weights['head.weight'].T + weights['head.bias']
    assert golden.relative_error(tokens(output), reference['tokens.norm']) < golden.TOLERANCE
    assert golden.relative_error(logits, reference['logits']) < golden.TOLERANCE


def test_tokens_after_the_stem_and_each_block(reference, weights):
    model = WeightFormer(arch=dict(embed_dims=32, depth=5)).double()
    model.load_state_dict(backbone_part(weights), strict=True)
    x = model.init_norm(model.patch_embed(reference['input']))
    assert golden.relative_error(x.flatten(1, 2), reference['tokens.stem']) < golden.TOLERANCE
    for index, block in enumerate(model.blocks):
        x = block(x)
        expected = reference[f'tokens.block{index}']
        assert golden.relative_error(x.flatten(1, 2), expected) < golden.TOLERANCE, index
