"""``pretrained=True``, through timm's own mechanism, against a stand-in for the hub; and every refusal."""

from __future__ import annotations

import runpy

import pytest
import safetensors.torch
import timm
import torch

import weightformer_mm.timm_models  # noqa: F401
from tests.helpers import golden
from tests.helpers.hub_server import stand_in
from tests.helpers.pages import blocks
from tests.helpers.pickles import Call
from weightformer_mm.checkpoints import convert_released
from weightformer_mm.errors import UserError

REPOSITORIES = {arch: f'RuizeHe/weightformer-{arch[0]}' for arch in ('tiny', 'small', 'base')}


@pytest.fixture(scope='module')
def hub(tmp_path_factory):
    """Folder of the repositories, each with weights of the released names and shapes."""
    root = tmp_path_factory.mktemp('hub')
    torch.manual_seed(0)
    for arch, repository in REPOSITORIES.items():
        (root / repository).mkdir(parents=True)
        shapes = golden.released_shapes()[arch]['state_dict']
        weights = {name: torch.randn(shape) for name, shape in shapes.items()}
        safetensors.torch.save_file(weights, root / repository / 'model.safetensors')
    with pytest.MonkeyPatch.context() as monkeypatch:
        with stand_in(root, tmp_path_factory.mktemp('cache'), monkeypatch):
            yield root


def released(hub, arch) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(hub / REPOSITORIES[arch] / 'model.safetensors')


def expected(hub, arch) -> dict[str, torch.Tensor]:
    """The released weights of the backbone, under their names in the classifier."""
    weights = convert_released(released(hub, arch))
    return {f'backbone.{n}': v for n, v in weights.items() if not n.startswith('head.')}


def assert_same(actual, wanted):
    assert actual.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(actual[name], wanted[name])] == []


@pytest.mark.parametrize('arch', REPOSITORIES)
def test_released_weights(hub, arch):
    model = timm.create_model(f'weightformer_{arch}', pretrained=True)
    head = {n: v for n, v in released(hub, arch).items() if n.startswith('head.')}
    assert_same(model.state_dict(), {**expected(hub, arch), **head})


def test_another_number_of_classes_begins_the_head_anew(hub):
    model = timm.create_model('weightformer_tiny.in1k', pretrained=True, num_classes=10)
    weights = model.state_dict()
    assert weights.pop('head.weight').std().item() == pytest.approx(0.02, rel=0.1)
    assert weights.pop('head.bias').tolist() == [0] * 10
    assert_same(weights, expected(hub, 'tiny'))


@pytest.mark.parametrize('out_indices', [None, (2, 5)], ids=str)
def test_feature_maps(hub, out_indices):
    model = timm.create_model(
        'weightformer_tiny', pretrained=True, features_only=True, out_indices=out_indices
    )
    last = model.feature_info.out_indices[-1]
    wanted = {
        name: value
        for name, value in expected(hub, 'tiny').items()
        if not name.startswith('backbone.norm')
        and not ('blocks.' in name and int(name.split('.')[2]) > last)
    }
    assert_same(model.state_dict(), wanted)


def test_other_input_channels(hub):
    model = timm.create_model('weightformer_tiny', pretrained=True, in_chans=1)
    weights, wanted = model.state_dict(), expected(hub, 'tiny')
    first = 'backbone.patch_embed.proj.weight'
    torch.testing.assert_close(weights.pop(first), wanted.pop(first).sum(dim=1, keepdim=True))
    weights = {name: v for name, v in weights.items() if not name.startswith('head.')}
    assert_same(weights, wanted)


OPTIONS = [dict(), dict(num_classes=10), dict(features_only=True)]
CHANGES = {
    'missing: backbone.blocks.16.linear2.bias; unexpected: none; of another shape: none': (
        lambda weights: weights.pop('blocks.16.linear2.bias')
    ),
    'missing: none; unexpected: backbone.blocks.0.extra; of another shape: none': (
        lambda weights: weights.update({'blocks.0.extra': torch.zeros(1)})
    ),
    r'of another shape: backbone.init_norm.bias \(3,\) instead of \(192,\)$': (
        lambda weights: weights.update({'init_norm.bias': torch.zeros(3)})
    ),
    r'of another shape: backbone.patch_embed.proj.weight \(192, 4, 16, 16\) instead of': (
        lambda weights: weights.update({'patch_embed.proj.weight': torch.zeros(192, 4, 16, 16)})
    ),
}


def create_from(path, **options):
    """The tiny network with the weights of a file in place of the hub's, by timm's means."""
    return timm.create_model(
        'weightformer_tiny',
        pretrained=True,
        pretrained_cfg_overlay=dict(file=str(path)),
        **options,
    )


@pytest.mark.parametrize('options', OPTIONS, ids=str)
@pytest.mark.parametrize('message', CHANGES)
def test_one_key_less_or_more_or_reshaped_is_refused(hub, message, options, tmp_path):
    weights = released(hub, 'tiny')
    CHANGES[message](weights)
    path = tmp_path / 'changed.safetensors'
    safetensors.torch.save_file(weights, path)
    with pytest.raises(UserError, match=message) as error:
        create_from(path, **options)
    cause = (
        'with another patch_size or in_channels' if 'patch_embed' in message else 'are incomplete'
    )
    assert cause in str(error.value) and str(error.value).startswith(str(path))
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('options', OPTIONS, ids=str)
def test_weights_of_another_arch_are_refused(hub, options):
    message = (
        r'RuizeHe/weightformer-t: these are weights of tiny \(embed_dims=192, depth=17\), '
        r'the model is small/base \(embed_dims=384, depth=17\)'
    )
    with pytest.raises(UserError, match=message):
        timm.create_model('weightformer_tiny', pretrained=True, arch='small', **options)


def test_weights_of_another_network_are_refused(hub):
    path = hub / REPOSITORIES['tiny'] / 'model.safetensors'
    with pytest.raises(UserError, match='these are not weights of a PyramidWeightFormer'):
        timm.create_model(
            'pyramid_weightformer_micro',
            pretrained=True,
            pretrained_cfg_overlay=dict(file=str(path)),
        )


def test_a_head_is_missed_only_where_it_is_wanted(hub, tmp_path):
    weights = {n: v for n, v in released(hub, 'tiny').items() if not n.startswith('head.')}
    path = tmp_path / 'backbone.safetensors'
    safetensors.torch.save_file(weights, path)
    for options in OPTIONS[1:]:
        create_from(path, **options)
    with pytest.raises(UserError, match='missing: head.weight, head.bias; unexpected: none'):
        create_from(path)


@pytest.mark.parametrize('wrap', ['own classifier', 'own backbone', 'training'])
def test_own_weights(wrap, tmp_path):
    trained = timm.create_model('weightformer_tiny', num_classes=4).state_dict()
    files = {
        'own classifier': trained,
        'own backbone': {n[len('backbone.') :]: v for n, v in trained.items() if 'head' not in n},
        'training': {'state_dict': {f'module.{n}': v for n, v in trained.items()}, 'epoch': 3},
    }
    torch.save(files[wrap], tmp_path / 'weights.pth')
    weights = create_from(tmp_path / 'weights.pth', num_classes=0).state_dict()
    assert_same(weights, {n: v for n, v in trained.items() if not n.startswith('head.')})


def test_what_timm_saves_it_loads(tmp_path):
    model = timm.create_model(
        'pyramid_weightformer_micro', num_classes=3, in_chans=4, img_size=(64, 96)
    )
    timm.models.save_for_hf(model, tmp_path, safe_serialization=True)
    again = timm.create_model(f'local-dir:{tmp_path}', pretrained=True)
    assert_same(again.state_dict(), model.state_dict())
    assert timm.data.resolve_model_data_config(again)['input_size'][1:] == (64, 96)


def test_what_the_page_shows(hub, tmp_path):
    (block,) = (text for text in blocks('docs/networks.md') if 'create_model' in text)
    (tmp_path / 'example.py').write_text(block)
    shown = runpy.run_path(str(tmp_path / 'example.py'))
    assert shown['model'](torch.randn(1, 3, 32, 32)).shape == (1, 10)
    outputs = shown['backbone'](torch.randn(1, 3, 32, 32))
    assert [x.shape[1] for x in outputs] == [128, 320, 512]
    assert [32 // x.shape[-1] for x in outputs] == [8, 16, 32]


def test_no_weights_of_the_pyramid_were_released():
    with pytest.raises(UserError, match='No pretrained weights exist for pyramid_weightformer'):
        timm.create_model('pyramid_weightformer_micro', pretrained=True)


def test_weights_that_are_not_there(hub):
    with pytest.raises(UserError, match='no repository RuizeHe/none'):
        timm.create_model(
            'weightformer_tiny',
            pretrained=True,
            pretrained_cfg_overlay=dict(hf_hub_id='RuizeHe/none'),
        )


@pytest.mark.parametrize('where', ['hub', 'file', 'folder'])
def test_a_pickle_that_runs_code_is_refused(hub, where, tmp_path):
    trace = tmp_path / 'trace'
    folder = hub / 'RuizeHe' / 'malicious'
    folder.mkdir(exist_ok=True)
    path = folder / 'pytorch_model.bin'  # what timm turns to where there are no safetensors
    torch.save({'blocks.0.x': Call(open, str(trace), 'w')}, path)
    source = {
        'hub': dict(hf_hub_id='RuizeHe/malicious'),
        'file': dict(file=str(path)),
        'folder': dict(source='local-dir', file=str(folder)),
    }
    with pytest.raises(UserError, match='is not loaded: besides tensors it holds'):
        timm.create_model(
            'weightformer_tiny', pretrained=True, pretrained_cfg_overlay=source[where]
        )
    assert not trace.exists()


def test_values_that_are_no_weights_are_refused(hub, tmp_path):
    weights = released(hub, 'tiny')
    weights['init_norm.bias'][3] = float('inf')
    safetensors.torch.save_file(weights, tmp_path / 'changed.safetensors')
    with pytest.raises(UserError, match='of another kind: backbone.init_norm.bias not finite'):
        create_from(tmp_path / 'changed.safetensors')


def test_the_model_says_where_its_weights_come_from(hub):
    model = timm.create_model('weightformer_tiny', pretrained=True)
    assert model.pretrained_cfg['hf_hub_id'] == REPOSITORIES['tiny']
    assert not model.pretrained_cfg.get('state_dict')
