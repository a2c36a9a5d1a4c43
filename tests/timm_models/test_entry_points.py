"""What every registered entry point must hold; a new arch is covered by standing in its table."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, resolve_model_data_config

from tests.helpers.uninitialised import Uninitialised
from weightformer_mm.backbones import PyramidWeightFormer, WeightFormer
from weightformer_mm.timm_models import MODEL_NAMES, FeatureMaps, ImageClassifier

NAMES = timm.list_models(module='weightformer')
MICRO = [
    ('weightformer_tiny', dict(embed_dims=24, depth=6)),
    ('pyramid_weightformer_tiny', dict(embed_dims=(8, 16, 16, 24), depths=(3, 3, 6, 3))),
]
MICRO_IDS = [name for name, _ in MICRO]
RELEASED = {
    'weightformer_tiny': ('RuizeHe/weightformer-t', (3, 224, 224)),
    'weightformer_small': ('RuizeHe/weightformer-s', (3, 224, 224)),
    'weightformer_base': ('RuizeHe/weightformer-b', (3, 448, 448)),
}


def test_every_arch_is_an_entry_point():
    archs = {f'weightformer_{arch}' for arch in WeightFormer.arch_settings}
    archs |= {f'pyramid_weightformer_{arch}' for arch in PyramidWeightFormer.arch_settings}
    assert set(NAMES) == set(MODEL_NAMES) == archs == set(timm.list_models('*weightformer*'))
    assert all(timm.is_model(name) for name in NAMES)
    released = timm.list_models('*weightformer*', pretrained=True)
    assert {name.split('.')[0] for name in released} == set(RELEASED)


@pytest.mark.parametrize('name', NAMES)
def test_default_cfg(name):
    with torch.device('meta'), Uninitialised():
        model = timm.create_model(name)
    config = model.default_cfg
    assert config is model.pretrained_cfg
    assert model.num_classes == config['num_classes'] == model.get_classifier().out_features == 1000
    repository, input_size = RELEASED.get(name, (None, (3, 224, 224)))
    assert config.get('hf_hub_id') == repository
    assert config['classifier'] == 'head'
    assert model.get_submodule(config['first_conv']).in_channels == 3
    with torch.device('meta'):
        last = model.forward_features(torch.zeros(config['input_size'])[None])
    assert config['pool_size'] == tuple(last.shape[-2:])
    data = resolve_model_data_config(model)
    assert data['input_size'] == input_size
    assert (data['mean'], data['std']) == (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    assert data['interpolation'] == 'bicubic'


@pytest.mark.parametrize('out_indices', [None, (0, -2)], ids=str)
@pytest.mark.parametrize('name', NAMES)
def test_feature_maps_are_as_feature_info_says(name, out_indices):
    with Uninitialised():
        model = timm.create_model(name, features_only=True, out_indices=out_indices).eval()
    info = model.feature_info
    channels, reductions = info.channels(), info.reduction()
    assert len(channels) == len(reductions) == len(info.out_indices) == (2 if out_indices else 4)
    for height, width in [(64, 96), (65, 97)]:
        with torch.inference_mode():
            features = model(torch.randn(1, 3, height, width))
        assert isinstance(features, list)
        assert [tuple(feature.shape) for feature in features] == [
            (1, count, -(-height // reduction), -(-width // reduction))
            for count, reduction in zip(channels, reductions)
        ]
        assert all(feature.is_contiguous() for feature in features)


@pytest.mark.parametrize('output_stride', [8, 16])
@pytest.mark.parametrize('name', [name for name in NAMES if name.startswith('pyramid')])
def test_output_stride(name, output_stride):
    options = dict(features_only=True, output_stride=output_stride)
    with Uninitialised():
        model = timm.create_model(name, **options).eval()
    reductions = model.feature_info.reduction()
    assert reductions == [min(stride, output_stride) for stride in (4, 8, 16, 32)]
    with torch.inference_mode():
        features = model(torch.randn(1, 3, 33, 50))
    assert [tuple(feature.shape[1:]) for feature in features] == [
        (channels, -(-33 // stride), -(-50 // stride))
        for channels, stride in zip(model.feature_info.channels(), reductions)
    ]


def test_a_classifier_of_another_output_stride_takes_the_same_weights(tmp_path):
    name, arch = MICRO[1]
    options = dict(arch=arch, dynamic_linear='static', dynamic_conv='static', num_classes=5)
    plain = timm.create_model(name, **options).eval()
    torch.save(plain.state_dict(), tmp_path / 'plain.pth')
    overlay = dict(file=str(tmp_path / 'plain.pth'), num_classes=5)
    loading = dict(pretrained=True, pretrained_cfg_overlay=overlay, output_stride=8)
    model = timm.create_model(name, **options, **loading).eval()
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        found, expected = (x.forward_features(image) for x in (model, plain))
        assert model(image).shape == (2, 5)
    assert found.shape[2:] == (8, 12) and expected.shape[2:] == (2, 3)
    torch.testing.assert_close(found[..., ::4, ::4], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(('name', 'arch'), MICRO, ids=MICRO_IDS)
@pytest.mark.parametrize('out_indices', [None, 1, 2, (0,), (-2,), [0, 2]], ids=str)
def test_feature_maps_are_the_backbones_and_need_all_that_is_built(name, arch, out_indices):
    model = timm.create_model(name, arch=arch, features_only=True, out_indices=out_indices)
    assert isinstance(model, FeatureMaps)
    network = WeightFormer if name.startswith('weightformer') else PyramidWeightFormer
    whole = network(arch=arch, out_indices=-1)
    whole.load_state_dict(model.backbone.state_dict(), strict=False)
    count = len(whole.units)
    last = {None: 4, 1: 1, 2: 2}.get(out_indices if not isinstance(out_indices, list) else '')
    expected = (
        tuple(range(count - last, count)) if last else tuple(index % count for index in out_indices)
    )
    assert tuple(model.feature_info.out_indices) == expected
    image = torch.randn(2, 3, 40, 33)
    features = model(image)
    for feature, x in zip(features, whole.intermediates(image, expected)):
        torch.testing.assert_close(feature, x)
    torch.autograd.backward(features, [torch.randn_like(feature) for feature in features])
    assert [n for n, parameter in model.named_parameters() if parameter.grad is None] == []
    assert [module['module'] for module in model.feature_info.get_dicts(['module'])] == [
        f'backbone.{"blocks" if network is WeightFormer else "stages"}.{index}'
        for index in expected
    ]


@pytest.mark.parametrize(('name', 'arch'), MICRO, ids=MICRO_IDS)
def test_feature_maps_can_be_recomputed(name, arch):
    model = timm.create_model(name, arch=arch, features_only=True)
    runs = []
    block = next(module for module in model.modules() if hasattr(module, 'linear2'))
    block.register_forward_pre_hook(lambda *_: runs.append(1))
    for enable, expected in ((True, 2), (False, 1)):
        model.set_grad_checkpointing(enable)
        runs.clear()
        sum(feature.square().sum() for feature in model(torch.randn(1, 3, 32, 32))).backward()
        assert len(runs) == expected


@pytest.mark.parametrize('out_indices', [0, 99, (99,), ()], ids=str)
def test_impossible_feature_maps_are_refused(out_indices):
    with pytest.raises(ValueError, match='expected'):
        timm.create_model('pyramid_weightformer_micro', features_only=True, out_indices=out_indices)


@pytest.mark.parametrize('features_only', [False, True])
@pytest.mark.parametrize(('size', 'expected'), [(64, (64, 64)), ((96, 64), (96, 64))])
def test_img_size_is_for_the_data_config(size, expected, features_only):
    model = timm.create_model(
        'weightformer_tiny', arch=MICRO[0][1], img_size=size, features_only=features_only
    )
    assert resolve_model_data_config(model)['input_size'] == (3, *expected)
    assert model.default_cfg is model.pretrained_cfg
    model(torch.randn(1, 3, 33, 48))
    unchanged = timm.create_model('weightformer_tiny', arch=MICRO[0][1])
    assert resolve_model_data_config(unchanged)['input_size'] == (3, 224, 224)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(img_size=(64, 64, 3)), 'expected img_size to be'),
        (dict(global_pool='median'), "unknown global_pool 'median'; choose one of"),
        (dict(arch='huge'), "unknown arch 'huge'"),
        (dict(dynamic_conv='magic'), "unknown dynamic convolution strategy 'magic'"),
        (dict(dynamic_linear='magic'), "unknown dynamic linear strategy 'magic'"),
    ],
    ids=str,
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        timm.create_model('weightformer_tiny', **options)


@pytest.mark.parametrize('features_only', [False, True])
@pytest.mark.parametrize(('name', 'arch'), MICRO, ids=MICRO_IDS)
def test_device_and_type_as_of_timms_networks(name, arch, features_only):
    options = dict(arch=arch, features_only=features_only, dtype=torch.bfloat16)
    model = timm.create_model(name, **options, device='cpu').eval()
    outputs = model(torch.zeros(1, 3, 64, 64, dtype=torch.bfloat16))
    assert {x.dtype for x in outputs} == {torch.bfloat16}
    with Uninitialised():
        model = timm.create_model(name, **options, device='meta')
    assert {(x.device.type, x.dtype) for x in model.state_dict().values()} == {
        ('meta', torch.bfloat16)
    }


@pytest.mark.parametrize(
    'option',
    [dict(heads=3), dict(out_indices=(0,)), dict(patch_size=8), dict(output_stride=16)],
)
def test_unknown_options_are_refused(option):
    with pytest.raises(TypeError, match=next(iter(option))):
        timm.create_model('weightformer_tiny', **option)


@pytest.mark.parametrize(('name', 'arch'), MICRO, ids=MICRO_IDS)
def test_options_reach_the_network(name, arch):
    model = timm.create_model(
        name,
        arch=arch,
        num_classes=5,
        in_chans=4,
        drop_rate=1.0,
        proj_drop_rate=0.2,
        drop_path_rate=0.3,
        dynamic_linear='static',
        dynamic_conv='static',
    )
    assert isinstance(model, ImageClassifier)
    image = torch.randn(2, 4, 32, 48)
    assert torch.equal(model(image), model.head.bias.expand(2, 5))  # all that this dropout leaves
    assert model.eval()(image).abs().min() > 0
    blocks = [module for module in model.modules() if hasattr(module, 'linear2')]
    assert {block.drop.p for block in blocks} == {0.2}
    assert blocks[-1].drop_path.drop_prob == pytest.approx(0.3)
    assert not any('predictor' in parameter for parameter, _ in model.named_parameters())
    default = timm.create_model(name, arch=arch)
    assert not any(hasattr(module, 'drop_prob') for module in default.modules())
    maps = timm.create_model(name, arch=arch, num_classes=0, global_pool='')
    assert maps(torch.randn(2, 3, 32, 64)).shape[:2] == (2, 24)
