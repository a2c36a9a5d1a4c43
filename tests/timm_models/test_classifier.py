"""The classifier: its numbers, and what timm's tools ask of a model."""

from __future__ import annotations

import copy

import pytest
import safetensors.torch
import timm
import torch
from mmengine.registry import MODELS
from timm.layers import SelectAdaptivePool2d, apply_test_time_pool
from timm.models import group_parameters
from timm.optim import create_optimizer_v2

import weightformer_mm.timm_models  # noqa: F401
from tests.helpers import golden

try:
    from timm.optim import param_groups_layer_decay
except ImportError:  # timm < 1.0.8
    from timm.optim.optim_factory import param_groups_layer_decay

ARCHS = [
    ('weightformer_tiny', dict(embed_dims=24, depth=6)),
    ('pyramid_weightformer_tiny', dict(embed_dims=(8, 16, 16, 24), depths=(3, 3, 6, 3))),
]
each_network = pytest.mark.parametrize(('name', 'arch'), ARCHS, ids=[name for name, _ in ARCHS])


def create(name, arch, **options):
    torch.manual_seed(0)
    return timm.create_model(name, arch=arch, **options)


@pytest.fixture
def in_float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_logits_equal_the_published_ones(in_float64, tmp_path):
    reference = golden.load('weightformer_micro_128')
    path = tmp_path / 'model.safetensors'
    safetensors.torch.save_file(golden.part(reference, 'param'), path)
    model = timm.create_model(
        'weightformer_tiny',
        arch=dict(embed_dims=32, depth=5),
        pretrained=True,
        pretrained_cfg_overlay=dict(file=str(path), num_classes=10),
    ).eval()
    logits = model(reference['input'])
    assert golden.relative_error(logits, reference['logits']) < golden.TOLERANCE
    tokens = model.forward_features(reference['input']).flatten(2).transpose(1, 2)
    assert golden.relative_error(tokens, reference['tokens.norm']) < golden.TOLERANCE
    maps = model.forward_intermediates(
        reference['input'], output_fmt='NHWC', intermediates_only=True
    )
    for index, x in enumerate(maps):
        expected = reference[f'tokens.block{index}']
        assert golden.relative_error(x.flatten(1, 2), expected) < golden.TOLERANCE, index


@each_network
def test_steps_of_forward(name, arch):
    model = create(name, arch, num_classes=7).eval()
    image = torch.randn(2, 3, 48, 33)
    features = model.forward_features(image)
    assert features.shape[1] == model.num_features == model.head_hidden_size == 24
    vectors = model.forward_head(features, pre_logits=True)
    torch.testing.assert_close(vectors, features.flatten(2).mean(2))
    assert torch.equal(model.head(vectors), model(image))


@each_network
def test_reset_classifier(name, arch):
    model = create(name, arch).double()
    image = torch.randn(2, 3, 64, 64).double()
    assert model(image).shape == (2, 1000)
    model.reset_classifier(3)
    assert model.get_classifier() is model.head
    assert model.num_classes == 3
    assert model(image).shape == (2, 3)
    model.reset_classifier(0)
    assert model(image).shape == (2, 24)
    model.reset_classifier(0, '')
    assert model(image).ndim == 4
    with pytest.raises(ValueError, match="unknown global_pool 'median'"):
        model.reset_classifier(3, 'median')
    assert (model.num_classes, model.global_pool) == (0, '')
    model.eval().reset_classifier(5, 'avg')
    assert model(image).shape == (2, 5)
    assert not any(module.training for module in model.modules())


@each_network
@torch.no_grad()
def test_without_pooling_the_head_classifies_each_pixel(name, arch):
    model = create(name, arch, num_classes=3).eval()
    image = torch.randn(2, 3, 64, 96)
    logits = model(image)
    model.global_pool = ''
    maps = model(image)
    assert maps.shape == (2, 3, *model.forward_features(image).shape[2:])
    torch.testing.assert_close(maps.mean((2, 3)), logits)
    model.reset_classifier(5)
    assert model.global_pool == '' and model(image).shape == (2, 5, *maps.shape[2:])


@each_network
def test_intermediates(name, arch):
    model = create(name, arch).eval()
    image = torch.randn(2, 3, 40, 33)
    count = len(model.feature_info)
    final, maps = model.forward_intermediates(image)
    assert torch.equal(final, model.forward_features(image))
    assert [x.shape[1] for x in maps] == [info['num_chs'] for info in model.feature_info]
    for indices in (2, [1, -1], (0,)):
        given = range(count - 2, count) if indices == 2 else [i % count for i in indices]
        final_again, chosen = model.forward_intermediates(image, indices)
        assert torch.equal(final_again, final)
        assert all(map(torch.equal, chosen, [maps[i] for i in given]))
        alone = model.forward_intermediates(
            image, indices, output_fmt='NHWC', intermediates_only=True
        )
        assert all(map(torch.equal, alone, [x.permute(0, 2, 3, 1) for x in chosen]))
    stopped, (second,) = model.forward_intermediates(image, [1], stop_early=True)
    assert torch.equal(stopped, second)
    assert torch.equal(model.forward_intermediates(image, [-1], norm=True)[1][0], final)
    with pytest.raises(ValueError, match="unknown output_fmt 'NLC'"):
        model.forward_intermediates(image, output_fmt='NLC')


@pytest.mark.parametrize(
    ('name', 'arch', 'changes'),
    [(*ARCHS[0], {}), (*ARCHS[1], {}), (*ARCHS[1], dict(output_stride=8))],
    ids=str,
)
def test_hooks_of_timm_find_every_map(name, arch, changes):
    image = torch.randn(2, 3, 40, 33)
    model = create(name, arch, **changes).eval()
    expected = model.forward_intermediates(image, output_fmt='NHWC', intermediates_only=True)
    options = dict(features_only=True, feature_cls='hook', out_indices=range(len(expected)))
    hooked = create(name, arch, **options, **changes).eval()
    assert hooked.output_fmt == 'NHWC'  # by which libraries know where the channels are
    found = hooked(image)
    assert len(found) == len(expected) == len(hooked.feature_info.channels())
    assert all(map(torch.equal, found, expected))
    last = create(name, arch, features_only=True, feature_cls='hook').eval()
    assert len(last(image)) == min(4, len(expected))

    maps = {}
    for info in model.feature_info:
        module = model.get_submodule(info['module'])
        module.register_forward_hook(
            lambda module, args, output, key=info['module']: maps.update({key: output})
        )
    model(image)
    for info, truth in zip(model.feature_info, expected):
        x = maps[info['module']]
        assert torch.equal(x, truth)
        assert x.shape[-1] == info['num_chs'] and x.shape[1] == -(-40 // info['reduction'])


def test_norm_reaches_the_intermediates_of_the_final_size():
    isotropic, pyramid = (create(*arch).eval() for arch in ARCHS)
    image = torch.randn(1, 3, 64, 64)
    for model, normed in ((isotropic, range(6)), (pyramid, [3])):
        raw = model.forward_intermediates(image, intermediates_only=True)
        maps = model.forward_intermediates(image, norm=True, intermediates_only=True)
        assert [i for i, (x, y) in enumerate(zip(raw, maps)) if not torch.equal(x, y)] == [*normed]


@each_network
@pytest.mark.parametrize(('indices', 'kept'), [(1, (-1,)), ([0, 2], (0, 2))], ids=str)
def test_prune_intermediate_layers(name, arch, indices, kept):
    model = create(name, arch).eval()
    image = torch.randn(1, 3, 40, 33)
    count = len(model.feature_info)
    kept = [index % count for index in kept]
    maps = model.forward_intermediates(image, kept, intermediates_only=True)
    assert model.prune_intermediate_layers(indices) == kept
    assert len(model.feature_info) == kept[-1] + 1
    pruned = model.forward_intermediates(image, kept, intermediates_only=True)
    assert all(map(torch.equal, pruned, maps))
    features = model(image)
    assert features.shape == maps[-1].shape
    assert torch.equal(features, maps[-1]) == (kept[-1] < count - 1)
    model.prune_intermediate_layers([0], prune_norm=True)
    assert torch.equal(model(image), model.forward_intermediates(image, [0])[1][0])


@each_network
def test_checkpointing_changes_no_gradient(name, arch):
    image = torch.randn(2, 3, 41, 64, dtype=torch.float64)
    gradients = []
    for enable in (False, True):
        model = create(name, arch, num_classes=4).double()
        model.set_grad_checkpointing(enable)
        runs = []
        block = next(module for module in model.modules() if hasattr(module, 'linear2'))
        block.register_forward_pre_hook(lambda *_, runs=runs: runs.append(1))
        model(image).square().sum().backward()
        assert len(runs) == 1 + enable
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, recomputed in zip(*gradients):
        torch.testing.assert_close(plain, recomputed, rtol=1e-10, atol=1e-12)


@each_network
def test_groups_follow_the_depth(name, arch):
    model = create(name, arch)
    names = [parameter for parameter, _ in model.named_parameters()]
    fine = group_parameters(model, model.group_matcher(), reverse=True)
    assert sorted(fine) == sorted(names)
    order = {'stem': [], 'blocks': [], 'end': []}
    for parameter in names:
        stem = 'backbone.patch_embed', 'backbone.init_norm', 'backbone.stages.0.downsample'
        end = 'backbone.norm', 'head.'
        part = 'stem' if parameter.startswith(stem) else 'blocks'
        order['end' if parameter.startswith(end) else part].append(fine[parameter])
    count = model.backbone.num_blocks
    assert set(order['stem']) == {0}
    assert order['blocks'] == sorted(order['blocks'])
    assert set(order['blocks']) == set(range(1, count + 1))
    assert set(order['end']) == {count + 1}

    coarse = group_parameters(model, model.group_matcher(coarse=True), reverse=True)
    assert sorted(coarse) == sorted(names)
    last = len(model.feature_info) + 1
    for parameter, group in coarse.items():
        if fine[parameter] in (0, count + 1):
            assert group == (last if fine[parameter] else 0), parameter
        else:
            assert group == int(parameter.split('.')[2]) + 1, parameter


@each_network
def test_layer_decay(name, arch):
    model = create(name, arch)
    groups = param_groups_layer_decay(model, weight_decay=0.05, layer_decay=0.5)
    assert sum(len(group['params']) for group in groups) == len(list(model.parameters()))
    scale = {id(p): group['lr_scale'] for group in groups for p in group['params']}
    decay = {id(p): group['weight_decay'] for group in groups for p in group['params']}
    assert scale[id(model.head.weight)] == 1
    first = model.get_submodule(model.pretrained_cfg['first_conv'])
    assert scale[id(first.weight)] == 0.5 ** (model.backbone.num_blocks + 1)
    assert model.no_weight_decay() == set()
    for parameter_name, parameter in model.named_parameters():
        is_spared = 'norm' in parameter_name or parameter_name.endswith('bias')
        assert (decay[id(parameter)] == 0) == is_spared, parameter_name


@each_network
def test_a_step_of_timms_optimizer_trains_every_parameter(name, arch):
    model = create(name, arch, num_classes=4, drop_path_rate=0.1, drop_rate=0.1)
    optimizer = create_optimizer_v2(model, opt='adamw', lr=0.1, weight_decay=0.05)
    before = copy.deepcopy(model)
    loss = torch.nn.functional.cross_entropy(model(torch.randn(4, 3, 64, 64)), torch.arange(4))
    loss.backward()
    optimizer.step()
    for (parameter_name, new), old in zip(model.named_parameters(), before.parameters()):
        assert not torch.equal(new, old), parameter_name
        assert torch.isfinite(new).all()


@pytest.mark.parametrize(('outputs', 'allowed'), [('last', []), ('first and last', ['norm*'])])
@each_network
def test_its_weights_initialise_a_detectors_backbone(name, arch, outputs, allowed, tmp_path):
    model = create(name, arch, num_classes=4)
    torch.save(model.state_dict(), tmp_path / 'classifier.pth')
    init_cfg = dict(
        type='Pretrained', checkpoint=str(tmp_path / 'classifier.pth'), allow_missing=allowed
    )
    backbone = MODELS.build(
        dict(
            type=type(model.backbone).__name__,
            arch=arch,
            out_indices=-1 if outputs == 'last' else (0, -1),
            init_cfg=init_cfg,
        )
    )
    backbone.init_weights()
    loaded, trained = backbone.state_dict(), model.backbone.state_dict()
    assert set(loaded) - set(trained) == ({'norm0.weight', 'norm0.bias'} if allowed else set())
    assert all(torch.equal(loaded[key], trained[key]) for key in trained)


@each_network
@pytest.mark.parametrize('pool', ['max', 'avgmax', 'catavgmax'])
def test_pooling_is_timms(name, arch, pool):
    model = create(name, arch, num_classes=5, global_pool=pool).eval()
    image = torch.randn(2, 3, 64, 64)
    pooled = SelectAdaptivePool2d(pool_type=pool, flatten=True)(model.forward_features(image))
    assert pooled.shape[1] == model.head_hidden_size == model.head.in_features
    torch.testing.assert_close(model(image), model.head(pooled))


@each_network
def test_a_larger_image_is_pooled_at_test_time(name, arch):
    model = create(name, arch, num_classes=5).eval()
    config = dict(model.default_cfg, input_size=(3, 288, 288))
    pooled, is_pooled = apply_test_time_pool(model, config)
    assert is_pooled
    assert pooled(torch.randn(1, 3, 288, 288)).shape == (1, 5)


@each_network
@torch.no_grad()
def test_indices_in_any_order(name, arch):
    model = create(name, arch).eval()
    image = torch.randn(1, 3, 64, 64)
    expected = model.forward_intermediates(image, (0, 2), intermediates_only=True)
    found = model.forward_intermediates(image, (2, 0, 2), intermediates_only=True)
    assert all(map(torch.equal, found, expected)) and len(found) == 2
    features = timm.create_model(name, arch=arch, features_only=True, out_indices=(2, 0))
    assert features.feature_info.out_indices == (0, 2) and len(features(image)) == 2
