"""Copies of parameters in half precision: made once, and gradients reach the parameters."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from weightformer_mm.ops._shared.half_copies import copies_of, half_copies


@pytest.fixture
def conv():
    torch.manual_seed(0)
    return torch.nn.Conv2d(2, 3, 3)


def twice(conv, x):
    """The outputs of a convolution that is used twice, and what it computes with."""
    with half_copies([conv.weight, conv.bias], torch.bfloat16):
        uses = [copies_of(conv.weight, conv.bias) for _ in range(2)]
        return [F.conv2d(x, *use) for use in uses], uses


def test_gradients_are_those_of_a_conversion_each(conv):
    x = torch.randn(1, 2, 5, 5).bfloat16()
    outputs, uses = twice(conv, x)
    assert all(copy.dtype == torch.bfloat16 for use in uses for copy in use)
    sum(output.float().square().sum() for output in outputs).backward()
    found = [parameter.grad.clone() for parameter in conv.parameters()]
    conv.zero_grad()
    outputs = [F.conv2d(x, conv.weight.bfloat16(), conv.bias.bfloat16()) for _ in range(2)]
    sum(output.float().square().sum() for output in outputs).backward()
    assert all(grad.dtype == torch.float32 and grad.any() for grad in found)
    assert all(map(torch.equal, found, (parameter.grad for parameter in conv.parameters())))


class Names(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function._schema.name)
        return function(*args, **(kwargs or {}))


def test_gradients_are_converted_together(conv):
    outputs, _ = twice(conv, torch.randn(1, 2, 5, 5).bfloat16())
    with Names() as mode:
        outputs[0].backward(torch.ones_like(outputs[0]))
    assert mode.names.count('aten::_foreach_copy_') == 1
    assert 'aten::_to_copy' not in mode.names


@pytest.mark.parametrize('frozen', [['weight'], ['bias'], ['weight', 'bias']])
def test_what_is_frozen_gets_no_gradient(frozen, conv):
    for name in frozen:
        getattr(conv, name).requires_grad_(False)
    x = torch.randn(1, 2, 5, 5).bfloat16().requires_grad_()
    outputs, uses = twice(conv, x)
    outputs[1].sum().backward()
    assert [name for name, value in conv.named_parameters() if value.grad is None] == frozen
    assert x.grad.any()
    assert len(frozen) < 2 or not any(copy.requires_grad for use in uses for copy in use)


def test_gradients_can_be_differentiated(conv):
    outputs, _ = twice(conv, torch.randn(1, 2, 5, 5).bfloat16())
    (grad,) = torch.autograd.grad(outputs[0].float().square().sum(), conv.weight, create_graph=True)
    grad.sum().backward()
    assert conv.weight.grad.any()


def test_parameters_without_a_copy_are_used_as_they_are(conv):
    parameters = conv.weight, conv.bias
    with half_copies([conv.weight], torch.bfloat16):
        assert copies_of(*parameters) == parameters
    assert copies_of(*parameters) == parameters
