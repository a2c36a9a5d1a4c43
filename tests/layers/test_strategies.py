"""What every prediction strategy must hold; a new one is covered by being registered."""

from __future__ import annotations

import pytest
import torch

from tests.helpers import needs
from weightformer_mm.layers import (
    KERNEL_PREDICTORS,
    WEIGHT_PREDICTORS,
    DynamicBlock,
    DynamicDepthwiseConv2d,
    DynamicLinear,
)

MAPS = [(1, 1, 1), (3, 1, 7), (1, 33, 2), (3, 5, 8)]  # B, H, W
LAYERS = [
    *(
        pytest.param(DynamicLinear, (16, 24), name, id=f'linear-{name}')
        for name in WEIGHT_PREDICTORS.names()
    ),
    *(
        pytest.param(DynamicDepthwiseConv2d, (16,), name, id=f'conv-{name}')
        for name in KERNEL_PREDICTORS.names()
    ),
]
PREDICTING = [case for case in LAYERS if case.values[2] != 'static']


def build(layer, sizes, strategy):
    torch.manual_seed(0)
    return layer(*sizes, strategy=strategy)


@pytest.mark.parametrize('shape', MAPS)
@pytest.mark.parametrize(('layer', 'sizes', 'strategy'), LAYERS)
def test_shape_and_gradient_of_every_parameter(layer, sizes, strategy, shape):
    module = build(layer, sizes, strategy)
    x = torch.randn(*shape, sizes[0], requires_grad=True)
    output = module(x)
    assert output.shape == (*shape, sizes[-1])
    output.backward(torch.randn_like(output))
    for name, parameter in [('input', x), *module.named_parameters()]:
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize(('layer', 'sizes', 'strategy'), LAYERS)
def test_images_of_a_batch_do_not_mix(layer, sizes, strategy):
    module = build(layer, sizes, strategy).double()
    x = torch.randn(3, 6, 5, sizes[0], dtype=torch.float64)
    alone = torch.cat([module(image[None]) for image in x])
    torch.testing.assert_close(module(x), alone, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(('layer', 'sizes', 'strategy'), PREDICTING)
def test_a_far_pixel_changes_the_output(layer, sizes, strategy):
    module = build(layer, sizes, strategy).double()
    with torch.no_grad():
        for parameter in module.parameters():  # the initial predictions are small
            parameter.normal_()
    x = torch.randn(1, 32, 32, sizes[0], dtype=torch.float64)
    changed = x.clone()
    changed[:, -2:, -2:] += 100
    difference = (module(x) - module(changed))[:, 0, 0].norm() / module(x)[:, 0, 0].norm()
    assert difference > 1e-3


@pytest.mark.parametrize('dtype', [needs.float16, torch.bfloat16])
@pytest.mark.parametrize('scale', [1e-3, 1.0, 1e3])
@pytest.mark.parametrize(('layer', 'sizes', 'strategy'), LAYERS)
def test_finite_under_autocast_at_any_scale(layer, sizes, strategy, scale, dtype):
    module = build(layer, sizes, strategy)
    side = 1024 // 4  # tokens along a side of a 1024x1024 image at stride 4
    x = (scale * torch.randn(1, side, side, sizes[0])).requires_grad_()
    with torch.autocast('cpu', dtype=dtype):
        output = module(x)
    assert torch.isfinite(output).all()
    output.backward(torch.randn_like(output) / side**2)  # as from a loss averaged over tokens
    for parameter in (x, *module.parameters()):
        assert torch.isfinite(parameter.grad).all()


@pytest.mark.parametrize('dtype', [needs.float16, torch.bfloat16])
@pytest.mark.parametrize(('layer', 'sizes', 'strategy'), PREDICTING)
def test_a_layer_in_half_precision_predicts_in_float32_and_stays_what_it_is(
    layer, sizes, strategy, dtype
):
    module = build(layer, sizes, strategy).to(dtype)
    module.predictor.register_buffer('constant', torch.ones(1, dtype=dtype))
    seen = []
    module.predictor.register_forward_hook(
        lambda predictor, args, out: seen.append((predictor.constant.dtype, out.dtype))
    )
    parameters = dict(module.named_parameters())
    module(torch.randn(2, 6, 5, sizes[0], dtype=dtype)).float().sum().backward()
    assert seen == [(torch.float32, torch.float32)]
    assert dict(module.named_parameters()) == parameters
    assert all(parameter.grad.dtype == dtype for parameter in parameters.values())


@pytest.mark.parametrize('layer', [DynamicLinear, DynamicDepthwiseConv2d])
def test_an_unknown_strategy_is_refused_with_the_valid_ones(layer):
    names = (WEIGHT_PREDICTORS if layer is DynamicLinear else KERNEL_PREDICTORS).names()
    sizes = (8, 8) if layer is DynamicLinear else (8,)
    with pytest.raises(
        ValueError, match=f"unknown .* strategy 'magic'; choose one of {', '.join(names)}"
    ):
        layer(*sizes, strategy='magic')


def test_a_name_is_registered_once():
    with pytest.raises(KeyError, match='static'):
        WEIGHT_PREDICTORS.register('static')(object)


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match='odd kernel_size, got 4'):
        DynamicDepthwiseConv2d(8, kernel_size=4)


def test_the_published_initialisation():
    torch.manual_seed(0)
    block = DynamicBlock(128)
    truncated = [
        block.linear1.weight,
        block.linear1.predictor.expand_in,
        block.linear1.predictor.expand_out,
        block.linear1.predictor.reduce.weight,
        block.linear2.weight,
    ]
    for weight in truncated:  # at least 4096 draws: the std is good to 1/sqrt(2 * 4096) = 1.1 %
        assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    for bias in (block.linear1.predictor.reduce.bias, block.linear2.bias):
        assert not bias.any()
    assert block.dwc.weight.std().item() == pytest.approx(0.02, rel=0.1)  # 1152 draws
