"""Wrong arguments of the backbones and the neck, and wrong images: one line that names what is wrong."""

from __future__ import annotations

import inspect
import random
from collections import Counter

import pytest
import torch

from weightformer_mm.arguments import RULES
from weightformer_mm.backbones import PyramidWeightFormer, WeightFormer
from weightformer_mm.necks import SimpleFeaturePyramid
from weightformer_mm.utils.translate import explain

SMALL = {
    PyramidWeightFormer: dict(arch=dict(embed_dims=[8, 16], depths=[1, 2]), out_indices=(0, 1)),
    WeightFormer: dict(arch=dict(embed_dims=16, depth=2), patch_size=4),
    SimpleFeaturePyramid: dict(in_channels=16, out_channels=8),
}
BACKBONES = [PyramidWeightFormer, WeightFormer]
VARIANTS = 300
ODD = [
    *(None, 'x', '', b'x', object(), int, True, False, torch.zeros(2)),
    *(-1, 0, 1, 2, 7, -0.5, 0.5, 1.0, 1.5, float('nan'), float('inf')),
    *([], [1], (0,), [0, 0], [3, 1], [None], ['a'], {}, {1: 1}),
    *({'type': 'Pretrained'}, {'type': 'Pretrained', 'checkpoint': '/none.pth', 'strict': False}),
    *({'type': 3}, [{'type': 'Nope'}], {'type': 'Pretrained', 'checkpoint': '/none.pth'}),
    *(
        {'embed_dims': 0, 'depth': 2},
        {'embed_dims': 16, 'depth': '2'},
        {'embed_dims': 3, 'depth': 1},
    ),
    *({'embed_dims': [8, 16], 'depths': [1, 'x']}, {'embed_dims': [8, 16], 'depths': [1, 2, 3]}),
    {'embed_dims': [5, 7, 9], 'depths': [1, 1, 1]},
]


def use(network: type, **changes: object) -> torch.nn.Module:
    arguments = {**SMALL[network], **changes}
    module = network(**arguments)
    module.init_weights()
    channels = arguments.get('in_channels', 3)
    is_neck = network is SimpleFeaturePyramid
    module([torch.zeros(1, channels, 2, 2)] if is_neck else torch.zeros(1, channels, 16, 16))
    return module


def test_wrong_arguments_never_end_in_another_error():
    draw = random.Random(0)
    counts: Counter[str] = Counter()
    for _ in range(VARIANTS):
        network = draw.choice(list(SMALL))
        names = list(inspect.signature(network).parameters)
        changes = {draw.choice(names): draw.choice(ODD) for _ in range(draw.choice([1, 1, 2]))}
        try:
            use(network, **changes)
        except Exception as error:
            problem = explain(error)
            assert problem is not None, (network, changes, repr(error))
            assert str(problem).strip() and '\n' not in str(problem)
            counts['refused'] += 1
        else:
            counts['ran'] += 1
    print(dict(counts))
    assert counts['refused'] > VARIANTS / 2 and counts['ran'] > 0


@pytest.mark.parametrize('network', SMALL, ids=lambda network: network.__name__)
def test_every_argument_has_a_rule(network):
    assert set(inspect.signature(network).parameters) <= {'arch', *RULES}


WRONG = {
    'drop_path_rate': ['x', 1.5, -0.1, 1, None, float('nan'), True],
    'drop_rate': [-0.1, '0.1'],
    'frozen_stages': [None, 1.5, True, '1', 4, -2],
    'out_indices': [None, {1: 1}, '0', [0.5], [True], [[0]]],
    'with_cp': ['maybe', 1, None],
    'memory_efficient': ['yes'],
    'in_channels': [0, -3, 3.0, None, '3', (3,)],
    'dynamic_linear': [None, ['gap']],
    'dynamic_conv': [3],
    'token_mixer': [[1]],
    'dynamic_every': [0, 1.5, True],
    'backend': ['cuda', None, []],
    'max_tokens': [0, None, 1e6],
    'cuda_graph': ['yes', 1, None],
    'init_cfg': [
        *('x', 3, [3], {}, {'type': 3}, {'type': 'Pretrained'}),
        {'type': 'Pretrained', 'checkpoint': 'a.pth', 'strict': False},
    ],
}


@pytest.mark.parametrize('network', BACKBONES)
@pytest.mark.parametrize(('name', 'value'), [(n, value) for n in WRONG for value in WRONG[n]])
def test_a_wrong_value_is_named(network, name, value):
    with pytest.raises(
        ValueError, match=rf'expected (an integer |a number )?{name}\b.*, got '
    ) as e:
        network(**{**SMALL[network], name: value})
    assert explain(e.value) is not None


@pytest.mark.parametrize(
    ('network', 'changes'),
    [
        (WeightFormer, {'patch_size': 0}),
        (WeightFormer, {'patch_size': (4, 4)}),
        (SimpleFeaturePyramid, {'in_channels': 3}),
        (SimpleFeaturePyramid, {'out_channels': 0}),
        (SimpleFeaturePyramid, {'num_outs': 4.5}),
        (WeightFormer, {'arch': {'embed_dims': [16], 'depth': 2}}),
        *((PyramidWeightFormer, {'output_stride': x}) for x in (4, 64, 16.0, '16', True, None)),
        (PyramidWeightFormer, {'arch': {'embed_dims': 8, 'depths': [1, 2]}}),
        (PyramidWeightFormer, {'arch': {'embed_dims': [8, 16], 'depths': [1, 0]}}),
    ],
    ids=str,
)
def test_a_wrong_size_is_named(network, changes):
    value = changes.get('arch', changes)
    names = '|'.join(value)
    with pytest.raises(ValueError, match=rf'expected (an integer )?({names}) .*, got '):
        network(**{**SMALL[network], **changes})


@pytest.mark.parametrize('network', BACKBONES)
@pytest.mark.parametrize(
    'shape', [(1, 4, 16, 16), (3, 16, 16), (16, 16), (1, 1, 3, 16, 16)], ids=str
)
def test_wrong_images_are_refused_with_their_shape(network, shape):
    model = network(**SMALL[network])
    with pytest.raises(ValueError, match=r'expected images \(B, 3, H, W\) .*, got \(') as error:
        model(torch.zeros(shape))
    assert explain(error.value) is not None


@pytest.mark.parametrize('network', BACKBONES)
def test_images_of_integers_are_refused(network):
    with pytest.raises(ValueError, match='got .* of torch.uint8, not of floating point'):
        network(**SMALL[network])(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))


@pytest.mark.parametrize('network', BACKBONES)
def test_a_batch_of_no_images_gives_maps_of_none(network):
    model = network(**SMALL[network])
    for sizes in (None, []):
        empty = model(torch.zeros(0, 3, 18, 25), sizes)
        some = model(torch.zeros(2, 3, 18, 25))
        assert [tuple(one.shape) for one in empty] == [(0, *one.shape[1:]) for one in some]
    if network is WeightFormer:
        assert [len(one) for one in SimpleFeaturePyramid(16, 8)(empty)] == [0] * 4
