"""Pretrained weights through ``init_cfg``, from every kind of file and name, and every way to fail."""

from __future__ import annotations

import os

import pytest
import safetensors.torch
import torch
from mmengine.registry import MODELS
from timm.layers import resample_patch_embed
from timm.models import adapt_input_conv
from torch import nn

from tests.helpers import golden
from tests.helpers.pickles import Call
from weightformer_mm.backbones import PyramidWeightFormer, WeightFormer
from weightformer_mm.checkpoints.pretrained import PretrainedWeights
from weightformer_mm.errors import UserError

ISOTROPIC = dict(type='WeightFormer', arch=dict(embed_dims=16, depth=3))
PYRAMID = dict(
    type='PyramidWeightFormer', arch=dict(embed_dims=(8, 16), depths=(3, 3)), out_indices=(0, 1)
)
NETWORKS = [ISOTROPIC, PYRAMID]


def build(config: dict, checkpoint: object, **options) -> nn.Module:
    init_cfg = dict(type='Pretrained', checkpoint=str(checkpoint), **options)
    backbone = MODELS.build(dict(config, init_cfg=init_cfg))
    backbone.init_weights()
    return backbone


def weights_of(config: dict) -> dict[str, torch.Tensor]:
    return {
        name: torch.randn_like(value) for name, value in MODELS.build(config).state_dict().items()
    }


def assert_loaded(backbone: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    own = backbone.state_dict()
    assert own.keys() == weights.keys()
    assert all(torch.equal(own[name], weights[name]) for name in own)


WRAPPERS = {
    'plain': lambda weights: weights,
    'training': lambda weights: {
        'model': {f'module.{n}': v for n, v in weights.items()},
        'epoch': 3,
    },
    'mmengine': lambda weights: {'state_dict': weights, 'meta': {'epoch': 1}},
    'classifier': lambda weights: {
        'model': {**weights, 'head.weight': torch.zeros(10, 16), 'head.bias': torch.zeros(10)}
    },
    'detector': lambda weights: {
        'state_dict': {
            **{f'backbone.{name}': value for name, value in weights.items()},
            'neck.conv.weight': torch.zeros(3),
            'roi_head.bbox_head.fc.weight': torch.zeros(3),
        }
    },
}


@pytest.mark.parametrize('config', NETWORKS, ids=lambda config: config['type'])
@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_files_of_torch_save(config, wrapper, tmp_path):
    weights = weights_of(config)
    torch.save(WRAPPERS[wrapper](weights), tmp_path / 'weights.pth')
    assert_loaded(build(config, tmp_path / 'weights.pth'), weights)


@pytest.mark.parametrize('config', NETWORKS, ids=lambda config: config['type'])
def test_safetensors(config, tmp_path):
    weights = weights_of(config)
    safetensors.torch.save_file(weights, tmp_path / 'model.safetensors')
    assert_loaded(build(config, tmp_path / 'model.safetensors'), weights)


@pytest.mark.parametrize('arch', WeightFormer.arch_settings)
@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_released_names(arch, suffix, tmp_path):
    shapes = golden.released_shapes()[arch]['state_dict']
    released = {name: torch.randn(shape) for name, shape in shapes.items()}
    path = tmp_path / f'model.{suffix}'
    if suffix == 'pth':
        torch.save({'model': released, 'optimizer': {}, 'args': None}, path)
    else:
        safetensors.torch.save_file(released, path)
    own = build(dict(type='WeightFormer', arch=arch), path).state_dict()
    assert len(own) == len(released) - 2
    assert torch.equal(own['blocks.1.linear1.predictor.expand_in'], released['blocks.1.linear1.w1'])
    assert torch.equal(
        own['blocks.1.dwc.predictor.2.weight'], released['blocks.1.dwc.wfm.2.weight']
    )
    assert torch.equal(own['norm16.weight'], released['norm.weight'])
    left = sorted(v.double().sum().item() for n, v in released.items() if not n.startswith('head.'))
    assert sorted(v.double().sum().item() for v in own.values()) == left


@pytest.mark.parametrize(
    ('theirs', 'ours', 'cause'),
    [
        (
            dict(type='WeightFormer', arch='tiny'),
            dict(type='WeightFormer', arch='small'),
            r'weights of tiny \(embed_dims=192, depth=17\), the model is small/base \(embed_dims=384',
        ),
        (
            dict(type='PyramidWeightFormer', arch='micro'),
            dict(type='PyramidWeightFormer', arch='nano'),
            r'weights of micro \(embed_dims=\(32, 64, 128, 192\).*the model is nano',
        ),
        (ISOTROPIC, PYRAMID, 'these are not weights of a PyramidWeightFormer'),
        (PYRAMID, ISOTROPIC, 'these are not weights of a WeightFormer'),
        (
            dict(ISOTROPIC, dynamic_conv='static'),
            ISOTROPIC,
            'another dynamic_linear or dynamic_conv',
        ),
        (
            dict(ISOTROPIC, token_mixer='attention'),
            ISOTROPIC,
            'another token_mixer or dynamic_every',
        ),
        (dict(ISOTROPIC, dynamic_every=1), ISOTROPIC, 'another token_mixer or dynamic_every'),
        (ISOTROPIC, dict(ISOTROPIC, out_indices=(1, 2)), r'other out_indices.*allow_missing'),
    ],
)
def test_weights_of_another_network_say_of_which(theirs, ours, cause, tmp_path):
    torch.save(weights_of(theirs), tmp_path / 'weights.pth')
    with pytest.raises(UserError, match=cause) as error:
        build(ours, tmp_path / 'weights.pth')
    for group in ('missing: ', 'unexpected: ', 'of another shape: '):
        assert group in str(error.value)


def test_one_predictor_that_lost_a_weight_was_not_trained_with_another_strategy(tmp_path):
    weights = weights_of(dict(ISOTROPIC, arch=dict(embed_dims=16, depth=6)))
    del weights['blocks.1.linear1.predictor.expand_in']
    torch.save(weights, tmp_path / 'weights.pth')
    with pytest.raises(UserError, match='are incomplete.*missing: blocks.1.linear1.predictor'):
        build(dict(ISOTROPIC, arch=dict(embed_dims=16, depth=6)), tmp_path / 'weights.pth')


@pytest.mark.parametrize('config', NETWORKS, ids=lambda config: config['type'])
def test_one_key_less_or_more_or_reshaped_is_refused_and_nothing_is_loaded(config, tmp_path):
    weights = weights_of(config)
    name = next(iter(weights))
    changes = {
        'missing': {n: v for n, v in weights.items() if n != name},
        'unexpected': {**weights, 'extra': torch.zeros(1)},
        'of another shape': {**weights, name: torch.zeros(1, 2)},
    }
    for group, changed in changes.items():
        torch.save(changed, tmp_path / 'weights.pth')
        backbone = MODELS.build(
            dict(config, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'weights.pth')))
        )
        before = {n: v.clone() for n, v in backbone.state_dict().items()}
        with pytest.raises(
            UserError, match=f'{group}: {"extra" if group == "unexpected" else name}'
        ):
            backbone.init_weights()
        assert_loaded(backbone, before)


def test_what_may_be_missing_is_said(tmp_path):
    weights = weights_of(ISOTROPIC)
    torch.save(weights, tmp_path / 'weights.pth')
    config = dict(ISOTROPIC, out_indices=(1, 2))
    own = build(config, tmp_path / 'weights.pth', allow_missing=['norm1.*']).state_dict()
    assert torch.equal(own.pop('norm1.weight'), torch.ones(16))
    assert torch.equal(own.pop('norm1.bias'), torch.zeros(16))
    assert all(torch.equal(own[name], weights[name]) for name in weights)
    with pytest.raises(UserError, match=r'missing: norm1\.bias'):
        build(config, tmp_path / 'weights.pth', allow_missing=['*.weight'])
    with pytest.raises(UserError, match=r'missing: norm1\.bias'):
        build(config, tmp_path / 'weights.pth', allow_missing='*.weight')  # one pattern, not eight
    build(config, tmp_path / 'weights.pth', allow_missing='norm1.*')


def test_pretrained_stands_after_the_other_initialisations(tmp_path):
    weights = weights_of(ISOTROPIC)
    torch.save(weights, tmp_path / 'weights.pth')
    init_cfg = [
        dict(type='Pretrained', checkpoint=str(tmp_path / 'weights.pth')),
        dict(type='Constant', layer='Linear', val=3.0),
    ]
    backbone = MODELS.build(dict(ISOTROPIC, init_cfg=init_cfg))
    backbone.init_weights()
    assert_loaded(backbone, weights)


def test_code_in_a_pickle_does_not_run(tmp_path):
    torch.save({'model': Call(os.mkdir, str(tmp_path / 'owned'))}, tmp_path / 'weights.pth')
    with pytest.raises(UserError, match='could run'):
        build(ISOTROPIC, tmp_path / 'weights.pth')
    assert not (tmp_path / 'owned').exists()


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
@pytest.mark.parametrize('content', ['truncated', 'html'])
def test_damaged_files_are_refused(content, suffix, tmp_path):
    path = tmp_path / f'weights.{suffix}'
    if suffix == 'pth':
        torch.save(weights_of(ISOTROPIC), path)
    else:
        safetensors.torch.save_file(weights_of(ISOTROPIC), path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] if content == 'truncated' else b'<!doctype html><html>')
    with pytest.raises(UserError, match=f'{path.name} is no readable checkpoint'):
        build(ISOTROPIC, path)


@pytest.mark.parametrize('content', [{}, {'model': {}}, {'epoch': 1}, [torch.zeros(1)]])
def test_files_without_weights_are_refused(content, tmp_path):
    torch.save(content, tmp_path / 'weights.pth')
    with pytest.raises(UserError, match='weights.pth (holds no weights|is no checkpoint)'):
        build(ISOTROPIC, tmp_path / 'weights.pth')


def test_absent_file(tmp_path):
    with pytest.raises(UserError, match='checkpoint not found: .*none.pth'):
        build(ISOTROPIC, tmp_path / 'none.pth')


def test_every_arch_is_recognised_by_its_weights():
    for network in (WeightFormer, PyramidWeightFormer):
        for name in network.arch_settings:
            with torch.device('meta'):
                weights = network(arch=name).state_dict()
            assert name in network.describe_sizes(weights).partition(' ')[0].split('/')


@pytest.mark.parametrize(
    ('network', 'options'),
    [
        (ISOTROPIC, dict(in_channels=1)),
        (ISOTROPIC, dict(in_channels=5, patch_size=8)),
        (ISOTROPIC, dict(patch_size=4)),
        (PYRAMID, dict(in_channels=4)),
    ],
)
def test_the_first_convolution_is_adapted_as_timm_does(network, options, tmp_path):
    weights = weights_of(network)
    path = tmp_path / 'weights.pth'
    torch.save(weights, path)
    with pytest.raises(UserError, match='another patch_size or in_channels .*adapt_input=True'):
        build(dict(network, **options), path)
    backbone = build(dict(network, **options), path, adapt_input=True)
    name = f'{backbone.first_conv}.weight'
    kernel = weights[name]
    if 'patch_size' in options:
        kernel = resample_patch_embed(kernel, [options['patch_size']] * 2)
    expected = adapt_input_conv(options.get('in_channels', 3), kernel)
    assert_loaded(backbone, {**weights, name: expected})
    assert_loaded(build(network, path, adapt_input=True), weights)


@pytest.mark.parametrize('name', ['allow_missing', 'allow_unexpected'])
def test_patterns_that_are_no_texts_are_refused(name):
    with pytest.raises(UserError, match=rf'{name}: expected patterns of names, got \[3\]'):
        PretrainedWeights('weights.pth', **{name: [3]})
