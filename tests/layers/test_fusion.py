"""A block that runs as few operations computes what its modules compute, and lets changed modules run."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

from tests.helpers import mlp_forms
from weightformer_mm import ops
from weightformer_mm.layers import AttentionBlock, DynamicBlock, StaticBlock, run_recomputed
from weightformer_mm.layers.primitives import Linear

BLOCKS = [StaticBlock, DynamicBlock, AttentionBlock]
WATCHED = ('norm2', 'linear1', 'linear2')
HOOKS = {
    'forward': nn.Module.register_forward_hook,
    'before forward': nn.Module.register_forward_pre_hook,
    'backward': nn.Module.register_full_backward_hook,
    'before backward': nn.Module.register_full_backward_pre_hook,
}


STATIC = dict(dynamic_linear='static', dynamic_conv='static')


def run(block, x, parameters=None):
    torch.manual_seed(1)
    y = block(x)
    parameters = block.parameters() if parameters is None else parameters
    gradients = torch.autograd.grad(y, [x, *parameters], torch.randn(y.shape).to(y))
    return [y, *gradients]


@pytest.fixture
def fused(monkeypatch):
    """How often the MLP ran as one operation."""
    calls = []
    original = ops.residual_mlp
    monkeypatch.setattr(ops, 'residual_mlp', lambda *args: calls.append(1) or original(*args))
    return calls


@pytest.mark.parametrize('options', [{}, dict(drop_path_rate=0.5), STATIC], ids=str)
@pytest.mark.parametrize('kind', BLOCKS)
def test_what_is_fused_computes_what_the_block_says(kind, options, fused):
    """The lines of ``forward``, without their decorator."""
    options = {**options} if kind is DynamicBlock or options is not STATIC else {}
    torch.manual_seed(0)
    block = kind(8, **options).double()
    x = torch.randn(3, 5, 4, 8, dtype=torch.float64, requires_grad=True)
    results = run(block, x)
    assert len(fused) == 1
    written = run(functools.partial(kind.forward.__wrapped__, block), x, block.parameters())
    assert len(fused) == 1
    for result, truth in zip(results, written):
        torch.testing.assert_close(result, truth, rtol=1e-10, atol=1e-12)


class Changed(StaticBlock):
    def mlp(self, x):
        return 0 * super().mlp(x)


def test_a_changed_method_takes_part(fused):
    block, x = Changed(8), torch.randn(2, 5, 4, 8)
    torch.testing.assert_close(block(x), x + block.dwc(x))
    assert not fused


@pytest.mark.parametrize('hook', HOOKS)
@pytest.mark.parametrize('drop_path', [0.0, 0.5])
@pytest.mark.parametrize('name', WATCHED)
@pytest.mark.parametrize('kind', BLOCKS)
def test_a_hook_is_called_and_changes_nothing(kind, name, drop_path, hook, fused):
    torch.manual_seed(0)
    block = kind(8, drop_path_rate=drop_path).double()
    x = torch.randn(3, 5, 4, 8, dtype=torch.float64, requires_grad=True)
    expected = run(block, x)
    assert len(fused) == 1
    seen = []
    HOOKS[hook](getattr(block, name), lambda *_: seen.append(1))
    for result, truth in zip(run(block, x), expected):
        torch.testing.assert_close(result, truth, rtol=1e-10, atol=1e-12)
    assert seen and len(fused) == 1


class Adapted(Linear):
    def forward(self, x):
        return super().forward(x) + 1


@pytest.mark.parametrize('kind', [StaticBlock, DynamicBlock])
def test_a_hook_sees_the_convolution_without_the_residual(kind):
    torch.manual_seed(0)
    block = kind(8)
    x = torch.randn(2, 5, 4, 8)
    expected = block(x)
    seen = []
    handle = block.dwc.register_forward_hook(lambda module, inputs, output: seen.append(output))
    torch.testing.assert_close(block(x), expected)
    handle.remove()
    torch.testing.assert_close(seen, [block.dwc(block.norm1(x) if kind is DynamicBlock else x)])


@pytest.mark.parametrize('name', WATCHED)
@pytest.mark.parametrize('kind', BLOCKS)
def test_a_parametrised_module_runs(kind, name, fused):
    torch.manual_seed(0)
    block = kind(8)
    other = copy.deepcopy(block)
    with torch.no_grad():
        getattr(other, name).weight.mul_(2)
    x = torch.randn(2, 5, 4, 8)
    expected = other(x)
    assert len(fused) == 1
    parametrize.register_parametrization(getattr(block, name), 'weight', Doubled())
    torch.testing.assert_close(block(x), expected)
    assert len(fused) == 1


@pytest.mark.parametrize('name', WATCHED)
@pytest.mark.parametrize('kind', BLOCKS)
def test_a_pruned_module_runs(kind, name, fused):
    torch.manual_seed(0)
    block = kind(8)
    x = torch.randn(2, 5, 4, 8)
    before = block(x)
    prune.random_unstructured(getattr(block, name), 'weight', amount=0.5)
    pruned = block(x)
    assert len(fused) == 1
    assert not torch.allclose(pruned, before)
    prune.remove(getattr(block, name), 'weight')
    torch.testing.assert_close(block(x), pruned)
    assert len(fused) == 2


@pytest.mark.parametrize('name', ['linear1', 'linear2'])
def test_a_linear_layer_without_bias_runs(name, fused):
    torch.manual_seed(0)
    block = StaticBlock(8)
    x = torch.randn(2, 5, 4, 8)
    expected = block(x)  # biases are zero at the beginning
    getattr(block, name).bias = None
    torch.testing.assert_close(block(x), expected)
    assert len(fused) == 1


def test_a_convolution_that_was_dilated_stays_so():
    """As libraries do it that trade stride for dilation."""
    torch.manual_seed(0)
    conv = StaticBlock(8).dwc
    x = torch.randn(2, 7, 6, 8)
    conv.dilation, conv.padding = (2, 2), (2, 2)
    block = StaticBlock(8)
    nn.init.zeros_(block.linear2.weight)
    block.dwc = conv
    torch.testing.assert_close(block(x), x + conv(x))


@pytest.mark.parametrize('kind', BLOCKS)
def test_a_replaced_module_runs(kind, fused):
    torch.manual_seed(0)
    block = kind(8)
    x = torch.randn(2, 5, 4, 8)
    before = block(x)
    adapted = Adapted(32, 8)
    adapted.load_state_dict(block.linear2.state_dict())
    block.linear2 = adapted
    torch.testing.assert_close(block(x), before + 1)
    assert len(fused) == 1


@pytest.mark.parametrize('kind', BLOCKS)
def test_dropout_takes_part_in_training_alone(kind, fused):
    torch.manual_seed(0)
    block = kind(8, drop_rate=0.5)
    x = torch.randn(2, 5, 4, 8)
    assert not torch.equal(block(x), block(x))
    assert not fused
    block.eval()
    assert torch.equal(block(x), block(x))
    assert len(fused) == 2


def test_stochastic_depth_drops_the_branch_of_whole_images():
    torch.manual_seed(0)
    block = StaticBlock(8, drop_path_rate=0.5)
    nn.init.zeros_(block.dwc.weight)
    nn.init.zeros_(block.dwc.bias)
    x = torch.randn(16, 3, 3, 8)
    branch = block(x) - x
    whole = block.eval()(x) - x
    dropped = branch.flatten(1).abs().amax(1) < 1e-6
    assert 0 < dropped.sum() < 16
    torch.testing.assert_close(branch[~dropped], 2 * whole[~dropped], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('kind', BLOCKS)
def test_dropout_that_trains_alone_takes_part(kind, fused):
    block = kind(8, drop_rate=0.5).eval()
    block.drop.train()
    x = torch.randn(2, 5, 4, 8)
    assert not torch.equal(block(x), block(x))
    assert not fused


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('kind', BLOCKS)
def test_a_replaced_drop_path_sees_the_branch(kind, training, fused):
    torch.manual_seed(0)
    block = kind(8).train(training)
    x = torch.randn(2, 5, 4, 8)
    block.drop_path = nn.Identity()
    nn.init.ones_(block.linear2.bias)
    once = block(x)
    assert len(fused) == 1
    block.drop_path = Doubled()
    assert not torch.allclose(block(x), once)
    assert len(fused) == 1


@pytest.mark.parametrize('kind', [StaticBlock, DynamicBlock])
def test_a_replaced_convolution_gets_its_residual(kind):
    torch.manual_seed(0)
    block = kind(8)
    x = torch.randn(2, 5, 4, 8)
    nn.init.zeros_(block.linear2.weight)
    block.dwc = Doubled()
    start = block.norm1(x) if kind is DynamicBlock else x
    torch.testing.assert_close(block(x), 3 * start)


@pytest.mark.parametrize('kind', BLOCKS)
def test_modules_of_another_kind_are_called(kind):
    """As for an ablation."""
    x = torch.randn(2, 5, 4, 8)
    block = kind(8)
    block.linear1, block.linear2, block.norm2 = nn.Identity(), nn.Identity(), nn.Identity()
    mixed = x + block.attention(block.norm1(x)) if kind is AttentionBlock else None
    if mixed is None:
        block.dwc = nn.Identity()
        mixed = 2 * block.norm1(x) if kind is DynamicBlock else 2 * x
    torch.testing.assert_close(block(x), mixed + nn.functional.gelu(mixed))
    block.drop_path = nn.Dropout(1.0)
    torch.testing.assert_close(block(x), x if kind is AttentionBlock else mixed)


class Scaled(StaticBlock):
    def __init__(self, channels):
        super().__init__(channels)
        self.gamma = nn.Parameter(torch.full((channels,), 0.5))

    def forward(self, x):
        return self.gamma * super().forward(x)


def hooked(channels):
    block = StaticBlock(channels)
    block.register_forward_hook(lambda module, inputs, output: output.square())
    return block


DERIVED = {
    'subclass': Scaled,
    'hook': hooked,
    'norm after it': lambda channels: nn.Sequential(StaticBlock(channels), nn.LayerNorm(channels)),
    'two in one': lambda channels: nn.Sequential(StaticBlock(channels), StaticBlock(channels)),
}


@pytest.mark.parametrize('kept', [False, True])
@pytest.mark.parametrize('name', DERIVED)
def test_what_comes_after_the_mlp_is_recomputed_as_well(name, kept, monkeypatch):
    mlp_forms.force(monkeypatch, 'kept' if kept else 'recomputed')
    torch.manual_seed(0)
    block = DERIVED[name](8).double()
    x = torch.randn(2, 5, 4, 8, dtype=torch.float64, requires_grad=True)
    expected = run(block, x)
    torch.manual_seed(1)
    y = run_recomputed(block, x)
    gradients = torch.autograd.grad(y, [x, *block.parameters()], torch.randn(y.shape).to(y))
    for result, truth in zip([y, *gradients], expected):
        torch.testing.assert_close(result, truth, rtol=1e-10, atol=1e-12)


def test_an_empty_batch_passes():
    block = StaticBlock(8, drop_path_rate=0.5)
    x = torch.randn(0, 5, 4, 8, requires_grad=True)
    block(x).sum().backward()
    assert x.grad.shape == x.shape
