from __future__ import annotations

import pytest
import torch

from tests.helpers import golden
from weightformer_mm.backbones import WeightFormer
from weightformer_mm.checkpoints import convert_released

ARCHS = tuple(WeightFormer.arch_settings)


def released_weights(arch: str) -> dict[str, torch.Tensor]:
    """Weights with the released names and shapes, each tensor telling its place by its value."""
    shapes = golden.released_shapes()[arch]['state_dict']
    return {
        name: torch.full(shape, float(index)) for index, (name, shape) in enumerate(shapes.items())
    }


@pytest.mark.parametrize('arch', ARCHS)
def test_released_weights_fit_the_backbone_exactly(arch):
    released = released_weights(arch)
    converted = convert_released(released)
    assert len(converted) == len(released)
    assert all(ours is theirs for ours, theirs in zip(converted.values(), released.values()))
    head = {name: converted.pop(name) for name in ('head.weight', 'head.bias')}
    assert head['head.weight'].shape == (1000, WeightFormer.arch_settings[arch]['embed_dims'])
    WeightFormer(arch=arch).load_state_dict(converted, strict=True)


def test_weights_without_the_head_convert_too():
    released = {
        name: v for name, v in released_weights('tiny').items() if not name.startswith('head.')
    }
    assert len(convert_released(released)) == len(released)


def test_unknown_and_missing_names_are_all_listed():
    released = released_weights('tiny')
    for name in ('blocks.1.linear1.w1', 'norm.bias', 'head.bias'):
        del released[name]
    released['blocks.0.linear1.w1'] = released['extra'] = torch.zeros(1)
    with pytest.raises(ValueError) as caught:
        convert_released(released)
    unknown, missing = str(caught.value).split('missing names:')
    assert 'blocks.0.linear1.w1, extra' in unknown
    assert missing.split() == ['blocks.1.linear1.w1,', 'head.bias,', 'norm.bias']


def test_a_last_block_without_its_second_layer_is_noticed():
    released = {
        name: v for name, v in released_weights('tiny').items() if 'blocks.16.linear2' not in name
    }
    with pytest.raises(ValueError, match=r'blocks\.16\.linear2\.bias, blocks\.16\.linear2\.weight'):
        convert_released(released)


def test_other_weights_are_refused():
    with pytest.raises(ValueError, match='not released WeightFormer weights'):
        convert_released({'conv1.weight': torch.zeros(1)})
