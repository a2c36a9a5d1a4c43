"""The depthwise convolution's kernels as operators of PyTorch: checked, compiled, under autocast, refused."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from tests.helpers import needs
from weightformer_mm import ops
from weightformer_mm.ops.depthwise_conv import triton


def conv_arguments(device, batch=2, height=3, width=4, channels=5, images=2, dtype=torch.float32):
    torch.manual_seed(0)
    shapes = [(images, channels, 1, 3, 3), (channels,)]
    x = torch.randn(batch, height, width, channels, device=device, dtype=dtype)
    return [x, *(torch.randn(shape, device=device) for shape in shapes)]


def norm_arguments(device, **sizes):
    args = conv_arguments(device, **sizes)
    return [*args, *torch.randn(2, args[0].shape[-1], device=device)]


def learned(args):
    return [arg.detach().clone().requires_grad_() for arg in args]


def operator_calls(device):
    x, kernel, bias, weight, shift = norm_arguments(device)
    grad = torch.randn_like(x)
    half = [x.bfloat16(), kernel[:1], bias]
    return {
        'conv': (triton.depthwise_conv, (*learned([x, kernel, bias]), True)),
        'conv, shared kernel, half': (triton.depthwise_conv, (*learned(half), False)),
        'conv, channels first': (
            triton.depthwise_conv,
            (x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1), kernel, bias, True),
        ),
        'grad': (triton.conv_grad, (x, grad, kernel, True)),
        'grad, shared kernel': (triton.conv_grad, (x, grad, kernel[:1], False)),
        'grad with norm': (
            triton.conv_norm_grad,
            (x, grad, kernel, None, x, weight, shift, 1e-6, True),
        ),
        'norm': (triton.conv_norm, (*learned([x, kernel, bias, weight, shift]), 1e-6, True)),
    }


@needs.custom_operators
@pytest.mark.parametrize('name', operator_calls('cpu'))
def test_operator_is_well_formed(name, device):
    operator, args = operator_calls(device)[name]
    torch.library.opcheck(operator.operator, args)


SIZES = [(3, 4), (5, 6), (4, 9)]


@needs.custom_operators
def test_compiled_whole_for_every_size(device):
    def function(x, kernel, bias, weight, shift):
        out = ops.depthwise_conv(x, kernel, bias, residual=True, backend='triton')
        out, normed = ops.depthwise_conv_norm(
            out, kernel, bias, weight, shift, 1e-6, backend='triton'
        )
        return out + normed.sin()

    torch._dynamo.reset()
    counter = CompileCounterWithBackend('aot_eager')
    compiled = torch.compile(function, backend=counter, fullgraph=True, dynamic=True)
    for height, width in SIZES:
        args = norm_arguments(device, height=height, width=width)
        results = []
        for run in (function, compiled):
            leaves = learned(args)
            output = run(*leaves)
            torch.manual_seed(1)
            output.backward(torch.randn_like(output))
            results.append([output.detach(), *(leaf.grad for leaf in leaves)])
        assert all(map(torch.equal, *results))
    assert counter.frame_count <= 2


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize('most', [5, 4])  # with the LayerNorm in the same kernel, and after it
def test_autocast_changes_nothing(most, dtype, monkeypatch, device):
    monkeypatch.setattr(triton, 'NORM_CHANNELS', most)
    sizes = {'batch': 1, 'height': 1, 'width': 2, 'channels': 5, 'images': 1}
    args = norm_arguments(device, **sizes, dtype=dtype)
    results = []
    for enabled in (False, True):
        leaves = learned(args)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled):
            out, normed = ops.depthwise_conv_norm(*leaves, 1e-6, backend='triton')
            assert out.dtype == normed.dtype == dtype
        torch.autograd.backward([out, normed], [torch.ones_like(out), out.detach()])
        results.append([out, normed, *(leaf.grad for leaf in leaves)])
    assert all(map(torch.equal, *results))


def test_double_precision_is_refused(device):
    args = [arg.double() for arg in conv_arguments(device)]
    with pytest.raises(ValueError, match='float64'):
        ops.depthwise_conv(*args, backend='triton')
