"""The LayerNorm's kernels give what PyTorch gives, as exactly."""

from __future__ import annotations

import functools

import pytest
import torch

from tests.helpers import accuracy
from tests.helpers.pairs import DTYPES, pairs
from weightformer_mm import ops

SHAPES = [(1, 1, 7, 3), (2, 6, 1, 20), (3, 5, 3, 96), (1, 2, 3, 513)]
FORMS = [{}, {'gelu': True}, {'channels_first': True}]


def arguments(shape, dtype=torch.float32, parameters=None, device='cpu'):
    generator = torch.Generator().manual_seed(0)
    shapes = [shape, shape[-1:], shape[-1:]]
    dtypes = [dtype, *[parameters or dtype] * 2]
    return [torch.randn(s, generator=generator).to(device, d) for s, d in zip(shapes, dtypes)]


def norm(*args, backend, **form):
    return ops.layer_norm(*args, 1e-6, backend=backend, **form)


@pytest.mark.parametrize(('shape', 'dtype'), pairs(SHAPES), ids=str)
@pytest.mark.parametrize('form', FORMS, ids=str)
def test_as_exact_as_pytorch(shape, dtype, form, device):
    accuracy.check(functools.partial(norm, **form), arguments(shape, dtype, device=device))


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_under_autocast_a_map_has_the_type_of_products(dtype, device):
    x, weight, bias = arguments((2, 3, 5, 20), torch.float32, device=device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        out = norm(x.to(dtype), weight, bias, backend='triton')
    assert out.dtype == torch.bfloat16
    exact = norm(x.to(dtype).double(), weight.double(), bias.double(), backend='torch')
    # one rounding, and float32's own error
    allowed = torch.finfo(torch.bfloat16).eps / 2 * exact.abs() + 1e-5
    assert ((out.double() - exact).abs() <= allowed).all()


@pytest.mark.parametrize('shape', [(0, 4, 4, 3), (2, 0, 4, 3)], ids=str)
@pytest.mark.parametrize('form', FORMS, ids=str)
def test_empty_map(shape, form, device):
    args = arguments(shape, device=device)
    out, *grads = accuracy.run(functools.partial(norm, backend='triton', **form), args)
    assert out.numel() == 0
    assert all(torch.equal(grad, torch.zeros_like(arg)) for grad, arg in zip(grads, args))


def test_strided_inputs(device):
    x, weight, bias = arguments((2, 3, 4, 6), device=device)
    strided = [
        x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
        *(vector[:1].expand(6) for vector in (weight, bias)),
    ]
    copies = [arg.contiguous() for arg in strided]
    results = [
        accuracy.run(functools.partial(norm, backend='triton'), a) for a in (strided, copies)
    ]
    for result, expected in zip(*results):
        assert torch.equal(result, expected)
