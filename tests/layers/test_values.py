"""Values and gradients of every strategy, in float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from tests.helpers import direct
from tests.layers.test_strategies import LAYERS, MAPS, PREDICTING
from weightformer_mm import ops
from weightformer_mm.layers import DynamicDepthwiseConv2d, DynamicLinear, SelfAttention

DIRECT = {DynamicLinear: direct.dynamic_linear, DynamicDepthwiseConv2d: direct.dynamic_conv}


def random_layer(layer, sizes, strategy):
    """Parameters of order one: the initial predictions would be too small to tell right from wrong."""
    torch.manual_seed(0)
    module = layer(*sizes, strategy=strategy).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module


@pytest.mark.parametrize('shape', [*MAPS, (2, 10, 7), (1, 16, 16)])
@pytest.mark.parametrize(('layer', 'sizes', 'strategy'), LAYERS)
def test_the_formula_computed_directly(layer, sizes, strategy, shape):
    module = random_layer(layer, sizes, strategy)
    x = torch.randn(*shape, sizes[0], dtype=torch.float64)
    output, expected = module(x), DIRECT[layer](module, x)
    assert ((output - expected).norm() / expected.norm()).item() < 1e-10


@pytest.mark.parametrize(('layer', 'sizes', 'strategy'), PREDICTING)
def test_the_predicted_part_counts(layer, sizes, strategy):
    """Without it the output is another one, so that the test above would see a wrong predictor."""
    module = random_layer(layer, sizes, strategy)
    x = torch.randn(2, 6, 7, sizes[0], dtype=torch.float64)
    with_prediction = module(x)
    module.predictor = None
    difference = (with_prediction - module(x)).norm() / with_prediction.norm()
    assert difference > 0.01


@pytest.mark.parametrize('shape', [(2, 3, 4), (1, 1, 5)])
@pytest.mark.parametrize(('layer', 'sizes', 'strategy'), LAYERS)
def test_gradients(layer, sizes, strategy, shape):
    module = random_layer(layer, (8, 12)[: len(sizes)], strategy)
    x = torch.randn(*shape, 8, dtype=torch.float64, requires_grad=True)
    names, parameters = zip(*module.named_parameters())

    def call(x, *values):
        return torch.func.functional_call(module, dict(zip(names, values)), (x,))

    assert torch.autograd.gradcheck(call, (x, *parameters), fast_mode=True)


@pytest.mark.parametrize('shape', [(2, 3, 5, 8), (1, 1, 7, 4)])
def test_attention_is_an_mlp_with_predicted_weights(shape):
    query = torch.randn(*shape, dtype=torch.float64)
    key, value = torch.randn(2, *shape[:2], 11, shape[-1], dtype=torch.float64)
    expected = scaled_dot_product_attention(query, key, value)
    assert (ops.attention_as_mlp(query, key, value) - expected).abs().max() < 1e-12


def test_attention_as_mlp_refuses_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r'expected query \(\.\.\., M, d\)'):
        ops.attention_as_mlp(torch.ones(2, 3), torch.ones(5, 4), torch.ones(5, 3))


@pytest.mark.parametrize('channels', [32, 64, 80, 24])
def test_self_attention_is_the_mlp_of_each_head(channels):
    torch.manual_seed(0)
    module = SelfAttention(channels).double()
    x = torch.randn(2, 3, 5, channels, dtype=torch.float64)
    query, key, value = module.qkv(x).flatten(1, 2).chunk(3, dim=-1)
    width = channels // module.num_heads
    heads = [
        ops.attention_as_mlp(*(part[..., start : start + width] for part in (query, key, value)))
        for start in range(0, channels, width)
    ]
    expected = module.proj(torch.cat(heads, dim=-1)).unflatten(1, (3, 5))
    torch.testing.assert_close(module(x), expected, rtol=1e-11, atol=1e-12)
