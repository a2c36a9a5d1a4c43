"""Each way to change what a module does is seen, so that no operation passes the module by."""

from __future__ import annotations

import pytest
from torch import nn
from torch.nn.utils import parametrize

from weightformer_mm.layers import DynamicDepthwiseConv2d, DynamicLinear
from weightformer_mm.layers.fused import as_built
from weightformer_mm.layers.primitives import DepthwiseConv2d, DropPath, LayerNorm, Linear

WITH_WEIGHT = {
    'LayerNorm': lambda: LayerNorm(8),
    'Linear': lambda: Linear(8, 8),
    'DynamicLinear': lambda: DynamicLinear(8, 8),
    'DepthwiseConv2d': lambda: DepthwiseConv2d(8),
    'DynamicDepthwiseConv2d': lambda: DynamicDepthwiseConv2d(8),
}
MODULES = {
    **WITH_WEIGHT,
    'DropPath': lambda: DropPath(0.5),
    'Dropout': lambda: nn.Dropout(0.5),
    'Identity': nn.Identity,
}
HOOKS = (
    'register_forward_hook',
    'register_forward_pre_hook',
    'register_full_backward_hook',
    'register_full_backward_pre_hook',
)


class Parameter(nn.Parameter):
    """Stands for the parameters of libraries that quantise or shard."""


def replace_forward(module):
    module.forward = module.forward


def replace_parameter(module):
    module.weight = Parameter(module.weight.detach())


def parametrise(module):
    parametrize.register_parametrization(module, 'weight', nn.Identity())


@pytest.mark.parametrize('name', MODULES)
def test_what_the_layers_build(name):
    assert as_built(MODULES[name]())


@pytest.mark.parametrize('hook', HOOKS)
@pytest.mark.parametrize('name', MODULES)
def test_a_hook_is_seen_until_it_is_removed(name, hook):
    module = MODULES[name]()
    handle = getattr(module, hook)(lambda *_: None)
    assert not as_built(module)
    handle.remove()
    assert as_built(module)


@pytest.mark.parametrize('change', [replace_forward, replace_parameter, parametrise])
@pytest.mark.parametrize('name', WITH_WEIGHT)
def test_another_forward_or_parameter_is_seen(name, change):
    module = MODULES[name]()
    change(module)
    assert not as_built(module)


def test_a_derived_class_is_seen():
    assert not as_built(type('Adapted', (Linear,), {})(8, 8))


def test_one_of_several_suffices():
    modules = [build() for build in MODULES.values()]
    assert as_built(*modules)
    modules[-1].register_forward_hook(lambda *_: None)
    assert not as_built(*modules)
