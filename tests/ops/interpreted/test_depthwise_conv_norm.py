"""The depthwise convolution with its LayerNorm in one kernel gives what PyTorch gives, as exactly."""

from __future__ import annotations

import functools

import pytest
import torch

from tests.helpers import accuracy
from tests.helpers.pairs import DTYPES, pairs
from weightformer_mm import ops

SHAPES = [(1, 1, 7, 2), (2, 6, 1, 20), (2, 9, 33, 5), (1, 2, 3, 96), (1, 2, 5, 384)]


def arguments(shape, images, dtype=torch.float32, parameters=None, device='cpu'):
    """A map in ``dtype``; kernels, bias and the norm's weight and bias in ``parameters`` or the same."""
    generator = torch.Generator().manual_seed(0)
    channels = shape[-1]
    shapes = [shape, (images, channels, 1, 3, 3), *[(channels,)] * 3]
    dtypes = [dtype, *[parameters or dtype] * 4]
    return [
        torch.randn(shape, generator=generator).to(device, dtype)
        for shape, dtype in zip(shapes, dtypes)
    ]


def norm(*args, residual=True, backend):
    return ops.depthwise_conv_norm(*args, 1e-6, residual=residual, backend=backend)


@pytest.mark.parametrize(('shape', 'dtype'), pairs(SHAPES), ids=str)
def test_one_kernel_per_image_with_residual(shape, dtype, device):
    accuracy.check(norm, arguments(shape, shape[0], dtype=dtype, device=device))


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_one_kernel_for_all_images(dtype, device):
    args = arguments((2, 3, 4, 20), 1, dtype=dtype, parameters=torch.float32, device=device)
    accuracy.check(functools.partial(norm, residual=False), args)


def test_channels_that_one_kernel_does_not_hold_run_in_two(device):
    accuracy.check(norm, arguments((1, 1, 1, 513), 1, torch.bfloat16, device=device))


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_the_norm_is_that_of_the_rounded_map(dtype, device):
    args = arguments((2, 3, 4, 20), 2, dtype=dtype, device=device)
    out, normed = norm(*args, backend='triton')
    assert torch.equal(out, ops.depthwise_conv(*args[:3], residual=True, backend='triton'))
    expected = torch.nn.functional.layer_norm(
        out.float(), (20,), *(arg.float() for arg in args[3:]), eps=1e-6
    )
    floor = torch.finfo(dtype).eps * float(expected.abs().max())
    torch.testing.assert_close(normed.float(), expected, rtol=0, atol=floor)


@pytest.mark.parametrize('used', [0, 1])
def test_gradient_if_only_one_output_is_used(used, device):
    args = arguments((2, 3, 4, 5), 2, device=device)

    def one(*args, backend):
        return norm(*args, backend=backend)[used]

    leaves = [arg.detach().clone().requires_grad_() for arg in args]
    expected = [arg.detach().clone().double().requires_grad_() for arg in args]
    upstream = torch.randn(args[0].shape, device=device)
    one(*leaves, backend='triton').backward(upstream)
    one(*expected, backend='torch').backward(upstream.double())
    for leaf, truth in zip(leaves, expected):
        if truth.grad is None:
            assert leaf.grad is None or not leaf.grad.any()
        else:
            torch.testing.assert_close(leaf.grad.double(), truth.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('shape', [(0, 4, 4, 3), (2, 0, 4, 3)], ids=str)
def test_empty_map(shape, device):
    args = arguments(shape, 1, device=device)
    results = accuracy.run(functools.partial(norm, backend='triton'), args)
    for result, arg in zip(results, [args[0], *args[:1], *args]):
        assert torch.equal(result, torch.zeros_like(arg))


def test_channels_first_and_strided_inputs(device):
    x, kernel, bias, weight, shift = arguments((2, 3, 4, 6), 2, device=device)
    strided = [
        x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
        kernel[:1].expand(2, -1, -1, -1, -1),
        *(vector[:1].expand(6) for vector in (bias, weight, shift)),
    ]
    copies = [arg.contiguous() for arg in strided]
    results = [
        accuracy.run(functools.partial(norm, backend='triton'), a) for a in (strided, copies)
    ]
    for result, expected in zip(*results):
        assert torch.equal(result, expected)


def test_every_run_gives_the_same_bits(device):
    args = arguments((2, 5, 3, 4), 2, dtype=torch.bfloat16, device=device)
    first, second = (
        accuracy.run(functools.partial(norm, backend='triton'), args) for _ in range(2)
    )
    assert all(map(torch.equal, first, second))
