"""What every backbone must hold; a new architecture is covered by standing in its table."""

from __future__ import annotations

import weakref

import pytest
import torch
from mmengine.registry import MODELS

from tests.helpers import mlp_forms, needs
from tests.helpers.contract import ARCH_IDS, ARCHS, MICRO, MICRO_IDS, build, depth_of
from weightformer_mm.ops import mlp

SIZES = [(33, 47), (64, 2048), (65, 97), (128, 96), (16, 16)]


def all_parameters_have_gradients(model):
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    broken = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all()
    ]
    return not missing and not broken, (missing, broken)


def check_outputs(model, outputs, batch, height, width):
    assert isinstance(outputs, tuple)
    assert (
        len(outputs) == len(model.out_indices) == len(model.out_channels) == len(model.out_strides)
    )
    for output, channels, stride in zip(outputs, model.out_channels, model.out_strides):
        assert output.shape == (batch, channels, -(-height // stride), -(-width // stride))
        assert torch.isfinite(output).all()
        assert output.is_contiguous()  # mmcv's RoIAlign misreads any other layout


@pytest.mark.parametrize(('backbone', 'arch'), ARCHS, ids=ARCH_IDS)
def test_every_arch_trains(backbone, arch):
    model = build(backbone, arch)
    outputs = model(torch.randn(1, 3, 65, 97))
    check_outputs(model, outputs, 1, 65, 97)
    torch.autograd.backward(outputs, [torch.randn_like(output) for output in outputs])
    ok, report = all_parameters_have_gradients(model)
    assert ok, report


@pytest.mark.parametrize(('backbone', 'arch'), MICRO, ids=MICRO_IDS)
def test_counters_and_quantisers_find_the_linear_layers(backbone, arch):
    """They look modules up by their exact class."""
    linears = [x for x in build(backbone, arch).modules() if isinstance(x, torch.nn.Linear)]
    assert linears and {type(linear) for linear in linears} == {torch.nn.Linear}
    assert all(linear.weight.std() < 0.03 for linear in linears)  # and begin as published


@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize(('backbone', 'arch'), MICRO, ids=MICRO_IDS)
def test_any_image_size(backbone, arch, size, batch):
    model = build(backbone, arch)
    check_outputs(model, model(torch.randn(batch, 3, *size)), batch, *size)


@pytest.mark.parametrize(('backbone', 'arch'), MICRO, ids=MICRO_IDS)
def test_one_pixel_less_than_a_patch_is_refused(backbone, arch):
    model = build(backbone, arch)
    least = model.least_size
    check_outputs(model, model(torch.randn(1, 3, least, least)), 1, least, least)
    message = f'at least {least}x{least} pixels, got {least}x{least - 1}'
    with pytest.raises(ValueError, match=message):
        model(torch.randn(1, 3, least, least - 1))


@pytest.mark.parametrize(('backbone', 'arch'), MICRO, ids=MICRO_IDS)
def test_images_of_a_batch_do_not_mix(backbone, arch):
    model = build(backbone, arch).double().eval()
    images = torch.randn(3, 3, 70, 53, dtype=torch.float64)
    together = model(images)
    for index, image in enumerate(images):
        for output, alone in zip(together, model(image[None])):
            torch.testing.assert_close(output[index], alone[0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(('backbone', 'arch'), MICRO, ids=MICRO_IDS)
def test_outputs_can_be_chosen_and_the_rest_is_not_built(backbone, arch):
    count = depth_of(backbone, arch)
    image = torch.randn(2, 3, 40, 33)
    for chosen in [*range(-count, count), (0, count - 1), [1, -1]]:
        model = build(backbone, arch, out_indices=chosen)
        given = [chosen] if isinstance(chosen, int) else chosen
        assert model.out_indices == tuple(index % count for index in given)
        norms = {name for name, _ in model.named_children() if name.startswith('norm')}
        assert norms == {f'norm{index}' for index in model.out_indices}
        outputs = model(image)
        check_outputs(model, outputs, 2, 40, 33)
        torch.autograd.backward(outputs, [torch.randn_like(output) for output in outputs])
        ok, report = all_parameters_have_gradients(model)
        assert ok, (chosen, report)


@pytest.mark.parametrize(('backbone', 'arch'), MICRO, ids=MICRO_IDS)
def test_an_output_does_not_depend_on_which_others_are_asked_for(backbone, arch):
    last = build(backbone, arch, out_indices=-1).eval()
    both = build(backbone, arch, out_indices=(0, -1)).eval()
    both.load_state_dict(last.state_dict(), strict=False)
    image = torch.randn(1, 3, 48, 64)
    assert torch.equal(last(image)[0], both(image)[1])


@pytest.mark.parametrize(('backbone', 'arch'), MICRO, ids=MICRO_IDS)
def test_intermediates_are_the_maps_before_the_norms_and_no_later_unit_runs(backbone, arch):
    model = build(backbone, arch, out_indices=(0, -1)).eval()
    units = depth_of(backbone, arch)
    assert len(model.unit_channels) == len(model.unit_strides) == len(model.units) == units
    image, names = torch.randn(2, 3, 41, 64), list(model.state_dict())
    for index, x, output in zip(
        model.out_indices, model.intermediates(image, model.out_indices), model(image)
    ):
        assert torch.equal(model.output(index, x.permute(0, 2, 3, 1)), output)
        assert not torch.equal(x, output)

    ran = []
    for block in (module for module in model.modules() if hasattr(module, 'linear2')):
        block.register_forward_hook(lambda block, *_: ran.append(block))
    for last in range(units):
        ran.clear()
        (x,) = model.intermediates(image, last)
        stride = model.unit_strides[last]
        assert x.shape == (2, model.unit_channels[last], -(-41 // stride), -(-64 // stride))
        assert ran[-1] in set(model.units[last].modules())
    assert len(ran) == model.num_blocks and list(model.state_dict()) == names
    with pytest.raises(ValueError, match='expected out_indices'):
        model.intermediates(image, (1, 0))


@pytest.mark.parametrize(('backbone', 'arch'), MICRO, ids=MICRO_IDS)
def test_no_map_between_blocks_is_kept(backbone, arch):
    model = build(backbone, arch).eval()
    outputs, kept = [], set()

    def record(block, args, output):
        live = {index for index, reference in enumerate(outputs) if reference() is not None}
        kept.update(index for index in live if outputs[index]() is not args[0])
        outputs.append(weakref.ref(output))

    for module in model.modules():
        if hasattr(module, 'linear2'):
            module.register_forward_hook(record)
    with torch.inference_mode():
        model(torch.randn(1, 3, 32, 32))
    assert not kept and len(outputs) == model.num_blocks


@pytest.mark.parametrize('chosen', [4711, -4711, (1, 0), (0, 0), ()], ids=str)
@pytest.mark.parametrize(('backbone', 'arch'), MICRO, ids=MICRO_IDS)
def test_impossible_outputs_are_refused(backbone, arch, chosen):
    with pytest.raises(ValueError, match='expected out_indices'):
        build(backbone, arch, out_indices=chosen)


RECOMPUTED = [
    dict(with_cp=True),
    dict(memory_efficient=True),
    dict(with_cp=True, memory_efficient=True),
]


@pytest.mark.parametrize('keep_hidden', [False, True])
@pytest.mark.parametrize('recomputed', RECOMPUTED, ids='+'.join)
@pytest.mark.parametrize(('backbone', 'arch'), MICRO, ids=MICRO_IDS)
def test_recomputation_changes_nothing_but_memory(
    backbone, arch, recomputed, keep_hidden, monkeypatch
):
    mlp_forms.force(monkeypatch, 'kept' if keep_hidden else 'recomputed')
    image = torch.randn(2, 3, 41, 64)
    results = []
    for options in ({}, recomputed):
        model = build(backbone, arch, drop_path_rate=0.3, **options).double()
        torch.manual_seed(1)
        outputs = model(image.double())
        upstream = [torch.randn_like(output) for output in outputs]
        torch.autograd.backward(outputs, upstream, retain_graph=True)
        once = [parameter.grad.clone() for parameter in model.parameters()]
        torch.autograd.backward(outputs, upstream)
        results.append((outputs, once, [parameter.grad for parameter in model.parameters()]))
    (outputs, gradients, _), (outputs_cp, *gradients_cp) = results
    assert all(map(torch.equal, outputs, outputs_cp))
    for times, group in enumerate(gradients_cp, start=1):
        for gradient, gradient_cp in zip(gradients, group):
            torch.testing.assert_close(times * gradient, gradient_cp, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize('recomputed', RECOMPUTED, ids='+'.join)
@pytest.mark.parametrize(('backbone', 'arch'), MICRO, ids=MICRO_IDS)
def test_recomputation_keeps_fewer_activations(backbone, arch, recomputed):
    kept = []
    for options in ({}, recomputed):
        model = build(backbone, arch, **options)
        seen = {}  # storage -> bytes
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, seen=seen: seen.update({t.untyped_storage().data_ptr(): t.nbytes}) or t,
            lambda t: t,
        ):
            outputs = model(torch.randn(1, 3, 64, 64))
        kept.append(sum(seen.values()))
        del outputs
    assert kept[1] < 0.5 * kept[0]


@pytest.mark.parametrize('recomputed', RECOMPUTED, ids='+'.join)
@pytest.mark.parametrize(('backbone', 'arch'), MICRO, ids=MICRO_IDS)
def test_no_activation_outlives_its_graph(backbone, arch, recomputed, monkeypatch):
    mlp_forms.force(monkeypatch, 'kept')
    model = build(backbone, arch, **recomputed)
    made = []
    original = mlp.ResidualMLP.apply

    def apply(x, plan, stash, *parameters):
        if stash is not None:
            made.append(weakref.ref(stash))
        return original(x, plan, stash, *parameters)

    monkeypatch.setattr(mlp.ResidualMLP, 'apply', apply)
    outputs = model(torch.randn(1, 3, 64, 64))
    torch.autograd.backward(outputs, [torch.randn_like(output) for output in outputs])
    assert bool(made) == (recomputed == dict(memory_efficient=True))
    assert all(stash() is None or stash().hidden is None for stash in made)


@pytest.mark.parametrize(('backbone', 'arch'), MICRO, ids=MICRO_IDS)
def test_frozen_stages_stay_as_they_are(backbone, arch):
    for frozen in range(-1, depth_of(backbone, arch) + 1):
        model = build(backbone, arch, frozen_stages=frozen, drop_rate=0.5)
        assert model.train() is model
        norms = [getattr(model, f'norm{i}') for i in model.out_indices if i < frozen]
        frozen_modules = [*model.stem, *model.units[:frozen], *norms] if frozen >= 0 else []
        fixed = {id(p) for module in frozen_modules for p in module.parameters()}
        assert bool(fixed) == (frozen >= 0)
        for name, parameter in model.named_parameters():
            assert parameter.requires_grad == (id(parameter) not in fixed), (frozen, name)
        assert not any(part.training for module in frozen_modules for part in module.modules())
        outputs = model(torch.randn(1, 3, 32, 32))
        trained = [output for output in outputs if output.requires_grad]
        if frozen < depth_of(backbone, arch):
            torch.autograd.backward(trained, [torch.randn_like(output) for output in trained])
        assert bool(trained) == (frozen < depth_of(backbone, arch))
    with pytest.raises(ValueError, match='expected frozen_stages'):
        build(backbone, arch, frozen_stages=depth_of(backbone, arch) + 1)


@pytest.mark.parametrize(('backbone', 'arch'), MICRO, ids=MICRO_IDS)
def test_frozen_stages_freeze_their_output_norms(backbone, arch):
    """As those of mmdet's and mmseg's Swin do."""
    model = build(backbone, arch, out_indices=(0, 2, 3), frozen_stages=3).train()
    norms = {f'norm{index}': getattr(model, f'norm{index}') for index in (0, 2, 3)}
    for name, norm in norms.items():
        frozen = name != 'norm3'
        assert norm.training != frozen
        assert all(parameter.requires_grad != frozen for parameter in norm.parameters())
        depth = model.num_blocks + 1
        assert model.get_layer_depth(f'{name}.weight') == (depth, depth + 1)
    outputs = model(torch.randn(1, 3, 32, 32))
    assert [output.requires_grad for output in outputs] == [False, False, True]


@pytest.mark.parametrize('recomputed', [{}, *RECOMPUTED], ids='+'.join)
@pytest.mark.parametrize(('backbone', 'arch'), MICRO, ids=MICRO_IDS)
def test_every_unit_is_called_with_its_map_as_output(backbone, arch, recomputed):
    model = build(backbone, arch, **recomputed)
    maps = []
    for unit in model.units:
        unit.register_forward_hook(lambda module, args, output: maps.append(output))
    image = torch.randn(2, 3, 41, 64)
    found = model.intermediates(image, range(len(model.units)))
    assert all(torch.equal(x.permute(0, 3, 1, 2), y) for x, y in zip(maps, found))
    assert len(maps) == len(found)
    called = set()
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: called.add(name))
    model(image)
    uncalled = {name for name, module in model.named_modules()} - called
    assert all(type(model.get_submodule(name)) is torch.nn.ModuleList for name in uncalled)


@pytest.mark.parametrize(('backbone', 'arch'), MICRO, ids=MICRO_IDS)
def test_layer_depth_follows_the_order_of_computation(backbone, arch):
    model = build(backbone, arch)
    depths = {}
    for name, _ in model.named_parameters():
        depth, count = model.get_layer_depth(f'backbone.{name}', prefix='backbone.')
        assert model.get_layer_depth(name) == (depth, count)
        depths.setdefault(depth, set()).add(name)
    blocks = model.num_blocks
    assert count == blocks + 2
    assert sorted(depths) == list(range(blocks + 2))
    stem = 'stages.0.downsample.' if 'depths' in arch else ('patch_embed.', 'init_norm.')
    assert all(name.startswith(stem) for name in depths[0])
    assert all(name.startswith('norm') for name in depths[blocks + 1])
    names = [name for name, _ in model.named_parameters()]
    in_order = [min(map(names.index, depths[depth])) for depth in range(blocks + 2)]
    assert in_order == sorted(in_order)
    assert model.get_layer_depth('decode_head.weight', prefix='backbone.') == (
        blocks + 1,
        blocks + 2,
    )


@pytest.mark.parametrize(('backbone', 'arch'), MICRO, ids=MICRO_IDS)
def test_dropout_and_drop_path_reach_the_blocks(backbone, arch):
    model = build(backbone, arch, drop_rate=0.25, drop_path_rate=0.3)
    blocks = [module for module in model.modules() if hasattr(module, 'drop_path')]
    rates = [getattr(block.drop_path, 'drop_prob', 0.0) for block in blocks]
    assert rates == pytest.approx([0.3 * index / (len(blocks) - 1) for index in range(len(blocks))])
    assert {block.drop.p for block in blocks} == {0.25}


@pytest.mark.parametrize(('backbone', 'arch'), MICRO, ids=MICRO_IDS)
def test_every_third_block_is_dynamic(backbone, arch):
    model = build(backbone, arch)
    blocks = [module for module in model.modules() if hasattr(module, 'linear2')]
    dynamic = [index for index, block in enumerate(blocks) if hasattr(block, 'norm1')]
    assert dynamic == list(range(1, len(blocks), 3))


@pytest.mark.parametrize(('backbone', 'arch'), MICRO, ids=MICRO_IDS)
def test_other_input_channels(backbone, arch):
    model = build(backbone, arch, in_channels=5)
    check_outputs(model, model(torch.randn(1, 5, 32, 48)), 1, 32, 48)


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg', 'mmengine'])
@pytest.mark.parametrize(('backbone', 'arch'), MICRO, ids=MICRO_IDS)
def test_found_from_every_librarys_registry(backbone, arch, scope):
    registry = MODELS
    if scope != 'mmengine':
        registry = pytest.importorskip(f'{scope}.registry').MODELS
    model = registry.build(dict(type=backbone.__name__, arch=arch))
    assert isinstance(model, backbone)


@pytest.mark.parametrize(('backbone', 'arch'), MICRO, ids=MICRO_IDS)
def test_unknown_options_are_refused(backbone, arch):
    with pytest.raises(ValueError, match=f'choose one of {", ".join(backbone.arch_settings)}'):
        backbone(arch='huge')
    with pytest.raises(ValueError, match='keys'):
        backbone(arch={**arch, 'heads': 3})
    with pytest.raises(TypeError, match='name or a dict'):
        backbone(arch=3)
    with pytest.raises(TypeError, match='pretrained'):
        backbone(arch=arch, pretrained=True)
    with pytest.raises(ValueError, match="unknown dynamic linear strategy 'magic'"):
        backbone(arch=arch, dynamic_linear='magic')
    with pytest.raises(ValueError, match="unknown dynamic convolution strategy 'magic'"):
        backbone(arch=arch, dynamic_conv='magic')


# bfloat16 has the range of float32: what is small is no smaller there
HALF = [pytest.param(scale, torch.float16, marks=needs.float16.marks) for scale in (1e-3, 1e3)]
HALF += [(1e3, torch.bfloat16)]


@pytest.mark.parametrize(('scale', 'dtype'), HALF, ids=str)
@pytest.mark.parametrize(('backbone', 'arch'), MICRO, ids=MICRO_IDS)
def test_finite_under_autocast(backbone, arch, scale, dtype):
    model = build(backbone, arch)
    with torch.autocast('cpu', dtype=dtype):
        outputs = model(scale * torch.randn(1, 3, 1024, 1024))
    assert all(torch.isfinite(output).all() for output in outputs)
    # as from a loss averaged over positions
    gradients = [torch.randn_like(output) / output[0, 0].numel() for output in outputs]
    torch.autograd.backward(outputs, gradients)
    ok, report = all_parameters_have_gradients(model)
    assert ok, report
