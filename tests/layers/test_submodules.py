"""Whatever is done to a module of a predictor takes part, and a prediction writes to no module."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

from tests.helpers import needs
from weightformer_mm import ops
from weightformer_mm.layers import (
    KERNEL_PREDICTORS,
    WEIGHT_PREDICTORS,
    DynamicBlock,
    DynamicDepthwiseConv2d,
    DynamicLinear,
)

BUILD = {
    'linear': lambda name: DynamicLinear(16, 24, strategy=name),
    'conv': lambda name: DynamicDepthwiseConv2d(16, strategy=name),
}
STRATEGIES = [
    *(('linear', name) for name in WEIGHT_PREDICTORS.names() if name != 'static'),
    *(('conv', name) for name in KERNEL_PREDICTORS.names() if name != 'static'),
]


def build(kind, strategy):
    torch.manual_seed(0)
    layer = BUILD[kind](strategy)
    with torch.no_grad():
        for parameter in layer.parameters():  # the initial predictions are small
            parameter.normal_(std=0.3)
    return layer.eval()


# each module of each predictor, itself included
PARTS = [
    pytest.param(kind, strategy, name, id=f'{kind}-{strategy}-{name or "itself"}')
    for kind, strategy in STRATEGIES
    for name, _ in BUILD[kind](strategy).predictor.named_modules()
]
LEARNED = [
    part
    for part in PARTS
    if hasattr(
        BUILD[part.values[0]](part.values[1]).predictor.get_submodule(part.values[2]), 'weight'
    )
]
each_part = pytest.mark.parametrize(('kind', 'strategy', 'name'), PARTS)
each_learned = pytest.mark.parametrize(('kind', 'strategy', 'name'), LEARNED)


def replace(layer, name, wrap):
    """Put ``wrap(module)`` in the place of a module of the predictor."""
    parent, _, last = f'predictor.{name}'.rstrip('.').rpartition('.')
    owner = layer.get_submodule(parent)
    setattr(owner, last, wrap(getattr(owner, last)))


def image():
    torch.manual_seed(1)
    return torch.randn(2, 6, 5, 16)


@each_part
def test_a_hook_sees_a_call_and_changes_nothing(kind, strategy, name):
    layer, x, calls = build(kind, strategy), image(), []
    expected = layer(x)
    part = layer.predictor.get_submodule(name)
    handles = [
        part.register_forward_hook(lambda *_: calls.append('forward')),
        part.register_full_backward_hook(lambda *_: calls.append('backward')),
    ]
    found = layer(x.requires_grad_())
    found.sum().backward()
    assert calls == ['forward', 'backward']
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for handle in handles:
        handle.remove()
    assert torch.equal(layer(x), expected)


@each_part
def test_a_hook_that_changes_something_changes_the_result(kind, strategy, name):
    layer, x = build(kind, strategy), image()
    expected = layer(x)
    part = layer.predictor.get_submodule(name)
    for register, hook in (
        (part.register_forward_pre_hook, lambda module, args: (3 * args[0] + 1,)),
        (part.register_forward_hook, lambda module, args, output: output.flip(-1) + 1),
    ):
        handle = register(hook)
        assert not torch.allclose(layer(x), expected, rtol=1e-3, atol=1e-3)
        handle.remove()
        assert torch.equal(layer(x), expected)


class Adapter(nn.Module):
    """A second, learned path beside a module, as LoRA has it."""

    def __init__(self, base):
        super().__init__()
        self.base, self.gain = base, nn.Parameter(torch.zeros(()))

    def forward(self, x):
        out = self.base(x)
        return out + self.gain * out.flip(-1)


@each_part
def test_an_adapter_takes_part(kind, strategy, name):
    layer, x = build(kind, strategy), image()
    expected = layer(x)
    replace(layer, name, Adapter)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
    gain = layer.get_submodule(f'predictor.{name}'.rstrip('.')).gain
    layer(x).square().sum().backward()
    assert gain.grad is not None and gain.grad != 0
    with torch.no_grad():
        gain.fill_(1)
    assert not torch.allclose(layer(x), expected, rtol=1e-3, atol=1e-3)


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x


def halve(module):
    prune.l1_unstructured(module, 'weight', amount=0.5)


def double(module):
    parametrize.register_parametrization(module, 'weight', Doubled())


@pytest.mark.parametrize('change', [halve, double])
@each_learned
def test_pruned_and_parametrised_weights_count(kind, strategy, name, change):
    layer, x = build(kind, strategy), image()
    plain = copy.deepcopy(layer)
    change(layer.predictor.get_submodule(name))
    weight = layer.predictor.get_submodule(name).weight.detach()
    plain.predictor.get_submodule(name).weight.data.copy_(weight)
    torch.testing.assert_close(layer(x), plain(x), rtol=1e-5, atol=1e-5)
    # a mask is laid on anew with each call, also after a step of the optimizer
    with torch.no_grad():
        for parameter in layer.predictor.get_submodule(name).parameters():
            parameter.mul_(3)
    plain.predictor.get_submodule(name).weight.data.mul_(3)
    if plain.predictor.get_submodule(name).bias is not None:
        plain.predictor.get_submodule(name).bias.data.mul_(3)
    torch.testing.assert_close(layer(x), plain(x), rtol=1e-4, atol=1e-4)


@each_learned
def test_a_bias_that_was_added_or_taken_away_counts(kind, strategy, name):
    layer, x = build(kind, strategy), image()
    part = layer.predictor.get_submodule(name)
    if part.bias is None:
        part.bias = nn.Parameter(torch.zeros(part.weight.shape[0]))
        expected = layer(x)
        nn.init.ones_(part.bias)
    else:
        nn.init.zeros_(part.bias)
        expected = layer(x)
        part.bias = None
        torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
        return
    assert not torch.allclose(layer(x), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('what', ['another activation', 'a longer MLP', 'a wider kernel'])
def test_a_changed_mlp_of_the_grid_runs(what):
    layer, x = build('conv', 'adaptive'), image()
    expected = layer(x)
    if what == 'another activation':
        layer.predictor[1] = nn.GELU(approximate='tanh')
        assert not torch.equal(layer(x), expected)
    elif what == 'a longer MLP':
        layer.predictor.append(Doubled())
        assert not torch.allclose(layer(x), expected, rtol=1e-3, atol=1e-3)
    else:
        wider = nn.Conv2d(16, 16, 3, padding=1)
        nn.init.zeros_(wider.weight)
        wider.weight.data[:, :, 1:2, 1:2] = layer.predictor[0].weight.data
        wider.bias = layer.predictor[0].bias
        layer.predictor[0] = wider
        torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings('ignore')  # on its way to another library
@pytest.mark.parametrize(('kind', 'strategy'), STRATEGIES)
def test_dynamic_quantisation_stays_close(kind, strategy):
    layer, x = build(kind, strategy), image()
    quantised = torch.ao.quantization.quantize_dynamic(layer, {nn.Linear}, dtype=torch.qint8)
    expected, found = layer(x), quantised(x)
    linear = [module for module in layer.predictor.modules() if type(module) is nn.Linear]
    assert torch.equal(found, expected) == (not linear)
    # steps of 1/127 of the largest weight and input, through at most two layers
    assert float((found - expected).abs().max()) <= 0.05 * float(expected.abs().max())


@pytest.mark.parametrize('dtype', [torch.bfloat16, needs.float16])
@each_part
def test_half_precision_writes_to_no_module(kind, strategy, name, dtype):
    """Also where a module is hooked or wrapped: seen from within, all is as it was."""
    layer = build(kind, strategy).to(dtype)
    state = {key: (id(value), value.clone()) for key, value in layer.named_parameters()}
    seen = []

    def look(*_):
        for key, value in layer.named_parameters():
            assert (id(value), value.dtype) == (state[key][0], dtype)
            assert torch.equal(value, state[key][1])
        seen.append(1)

    layer.predictor.get_submodule(name).register_forward_hook(look)
    out = layer(image().to(dtype))
    assert seen == [1] and out.dtype == dtype
    out.float().sum().backward()
    assert all(parameter.grad.dtype == dtype for parameter in layer.parameters())


@each_part
def test_half_precision_with_another_forward(kind, strategy, name):
    """One that holds on to the module it came from, whose parameters stay as they are meanwhile."""
    layer = build(kind, strategy).bfloat16()
    wide = copy.deepcopy(layer).float()
    before = {key: id(value) for key, value in layer.named_parameters()}
    seen = []
    for each in (layer, wide):
        part = each.predictor.get_submodule(name)

        def forward(x, original=part.forward):
            seen.append({key: id(value) for key, value in layer.named_parameters()})
            return original(x) + 1

        part.forward = forward
    x = image().bfloat16()
    found = ops.predict(layer.predictor, x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, ops.predict(wide.predictor, x.float()), rtol=1e-5, atol=1e-6)
    assert seen and all(parameters == before for parameters in seen)


def test_threads_share_a_model_in_half_precision():
    torch.manual_seed(0)
    model = nn.Sequential(*(DynamicBlock(16) for _ in range(3))).bfloat16().eval()
    images = [torch.randn(1, 6, 5, 16).bfloat16() for _ in range(4)]
    before = {key: (id(value), value.clone()) for key, value in model.named_parameters()}
    with torch.no_grad():
        expected = [model(x) for x in images]
    results = [[] for _ in images]

    def work(index):
        with torch.no_grad():
            for _ in range(20):
                results[index].append(model(images[index]))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for found, truth in zip(results, expected):
        assert len(found) == 20 and all(torch.equal(x, truth) for x in found)
    for key, value in model.named_parameters():
        assert id(value) == before[key][0] and torch.equal(value, before[key][1])
