"""timm's optimizers in mmengine's registry."""

from __future__ import annotations

import inspect

import pytest
import timm.optim
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import OPTIMIZERS
from torch import nn

from weightformer_mm.engine.optimizers.timm_optimizers import merge_groups
from weightformer_mm.layers import DynamicBlock
from weightformer_mm.utils import patches

PARAMWISE = dict(norm_decay_mult=0.0, bias_decay_mult=0.0)


def wrapper(model: nn.Module, opt: str, **options):
    optimizer = dict(type='TimmOptimizer', opt=opt, lr=3e-3, weight_decay=0.05, **options)
    return build_optim_wrapper(model, dict(optimizer=optimizer, paramwise_cfg=PARAMWISE))


@pytest.mark.parametrize('opt', ['nmuon', 'adamw', 'lion'])
def test_groups_keep_what_paramwise_cfg_gives_each_parameter(opt):
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8))
    groups = wrapper(model, opt).optimizer.param_groups
    decay = {id(p): group['weight_decay'] for group in groups for p in group['params']}
    assert len(groups) == 2
    assert {name: decay[id(p)] for name, p in model.named_parameters()} == {
        '0.weight': 0.05,
        '0.bias': 0.0,
        '1.weight': 0.0,
        '1.bias': 0.0,
        '2.weight': 0.05,
        '2.bias': 0.0,
    }


def test_muon_takes_the_matrices_and_adamw_the_rest():
    """A Muon step of a matrix is (almost) orthogonal; of a depthwise kernel or a bias it is Adam's."""
    model = DynamicBlock(16)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optim_wrapper = wrapper(model, 'nmuon', fallback_lr_scale=0.5)
    optim_wrapper.update_params(model(torch.randn(2, 8, 8, 16)).square().mean())
    state = optim_wrapper.optimizer.state
    by_muon = {
        name
        for name, parameter in model.named_parameters()
        if 'momentum_buffer' in state[parameter]
    }
    assert by_muon == {
        'dwc.predictor.0.weight',
        'dwc.predictor.2.weight',
        'linear1.weight',
        'linear1.predictor.reduce.weight',
        'linear1.predictor.expand_in',
        'linear1.predictor.expand_out',
        'linear2.weight',
    }
    singular = torch.linalg.svdvals(before['linear1.weight'] - model.linear1.weight.detach())
    # The last but one: LayerNorm takes the mean out, so one direction of the input has no gradient.
    assert singular[0] / singular[-2] < 1.5


@pytest.mark.parametrize('multiplies, low, high', [(False, 0.0, 1e-5), (True, 1e-4, 3e-2)])
def test_muon_computes_in_float32_where_the_cpu_lacks_bfloat16(monkeypatch, multiplies, low, high):
    muon = timm.optim.muon
    original = inspect.unwrap(muon.zeropower_via_newtonschulz)
    monkeypatch.setattr(muon, 'zeropower_via_newtonschulz', original)
    monkeypatch.setattr(patches, '_cpu_multiplies_bfloat16', lambda: multiplies)
    layer = nn.Linear(48, 32, bias=False)
    before = layer.weight.detach().clone()
    optimizer = wrapper(layer, 'nmuon').optimizer
    optimizer.param_groups[0]['weight_decay'] = 0.0
    layer.weight.grad = torch.randn(32, 48)
    optimizer.step()
    group = optimizer.param_groups[0]
    coefficients = muon.resolve_ns_coefficients(group['ns_coefficients'], muon._COEFFICIENTS)
    exact = original(
        layer.weight.grad.double(), group['ns_steps'], coefficients, dtype=torch.float64
    )
    step = (before - layer.weight.detach()).double()
    error = (step / step.norm() - exact / exact.norm()).norm()
    assert low <= error < high


def test_unknown_optimizer_is_named():
    with pytest.raises(ValueError, match="optimizer 'nothing' of timm"):
        OPTIMIZERS.build(
            dict(type='TimmOptimizer', opt='nothing', params=[nn.Parameter(torch.zeros(1))])
        )


def test_merging_joins_equal_options_only():
    a, b, c = (nn.Parameter(torch.zeros(1)) for _ in range(3))
    groups = [dict(params=[a], lr=1.0), dict(params=b, lr=2.0), dict(params=[c], lr=1.0)]
    merged = merge_groups(groups)
    assert [group['lr'] for group in merged] == [1.0, 2.0]
    assert [[id(p) for p in group['params']] for group in merged] == [[id(a), id(c)], [id(b)]]
    assert [group['params'] for group in groups] == [[a], b, [c]]
    assert merge_groups([a, b]) == [a, b]
