"""The kernels of the MLP and of the LayerNorm compile for GPUs of three generations."""

from __future__ import annotations

import pytest
import torch

from tests.helpers import needs

if needs.TRITON_INTERNALS_OBSTACLE is not None:
    pytest.skip(needs.TRITON_INTERNALS_OBSTACLE, allow_module_level=True)

from tests.helpers.ahead_of_time import compile_launches  # noqa: E402
from weightformer_mm.ops.layer_norm import triton as layer_norm  # noqa: E402
from weightformer_mm.ops.mlp import triton  # noqa: E402

HALF = [torch.bfloat16, torch.float16]


def step(channels, dtype, batch=1):
    """Forward and backward of a residual MLP of the usual width, with one first matrix for all images."""
    hidden = 4 * channels
    x = torch.zeros(batch, 128, 128, channels, dtype=dtype)
    weight1 = torch.zeros(hidden, channels).T[None]
    weight2 = torch.zeros(channels, hidden)
    arguments = (x, x, weight1, torch.zeros(hidden), weight2, torch.zeros(channels), None)
    halves = weight1.to(dtype), weight2.to(dtype)
    out, kept = triton.residual_mlp(*arguments, *halves, True)
    triton._gradient(None, (*arguments, *halves, True), (kept,), out, None)
    if channels <= triton.MOST_WHOLE:
        triton.residual_mlp(*arguments, *halves, False)


@pytest.mark.parametrize('channels', [32, 128, 192, 320, 768])
def test_products(channels):
    kernels = compile_launches(step, channels, torch.bfloat16)
    names = [*['linear_kernel'] * 4, 'weight_grad_kernel']
    names += ['mlp_kernel'] * (channels <= triton.MOST_WHOLE)
    assert [kernel.name for kernel in kernels] == names
    for kernel in kernels:
        assert kernel.spilled == 0 and kernel.registers <= 255
        assert 'wgmma' in kernel.ptx  # Hopper's matrix instructions
        assert 'ld.global.b16' not in kernel.ptx, kernel.name  # many elements at once


def norm(channels, dtype, gelu, channels_first):
    x = torch.zeros(1, 128, 128, channels, dtype=dtype)
    vectors = torch.zeros(2, channels)
    out = layer_norm.norm(x, *vectors, 1e-6, dtype, gelu, channels_first)
    layer_norm.norm_grad(out, x, None, x, *vectors, 1e-6, gelu, channels_first)


@pytest.mark.parametrize('channels', [32, 320, 768])
@pytest.mark.parametrize(('gelu', 'channels_first'), [(False, False), (True, False), (False, True)])
def test_norms(channels, gelu, channels_first):
    kernels = compile_launches(norm, channels, torch.bfloat16, gelu, channels_first)
    assert [kernel.name for kernel in kernels] == ['layer_norm_kernel', 'layer_norm_grad_kernel']
    assert all(kernel.spilled == 0 for kernel in kernels)


def infer(channels, side):
    x = torch.zeros(1, side, side, channels, dtype=torch.bfloat16)
    weights = [torch.zeros(shape).bfloat16() for shape in ((1, channels, 8), (channels, 8))]
    vectors = torch.zeros(8), torch.zeros(channels)
    arguments = (weights[0], vectors[0], weights[1], vectors[1], None)
    triton.residual_mlp(x, x, *arguments, *weights, False)


@pytest.mark.parametrize(
    ('channels', 'side', 'launches'), [(128, 16, 1), (320, 88, 2), (320, 96, 1), (384, 96, 2)]
)
def test_one_kernel_where_it_has_enough_programs(channels, side, launches):
    assert len(compile_launches(infer, channels, side)) == launches


@pytest.mark.parametrize(('capability', 'channels'), [(80, 128), (100, 128), (100, 320)])
def test_other_gpus(capability, channels):
    kernels = compile_launches(step, channels, torch.bfloat16, capability=capability)
    kernels += compile_launches(norm, 128, torch.bfloat16, True, False, capability=capability)
    assert len(kernels) == 8
    assert {kernel.name: kernel.spilled for kernel in kernels if kernel.spilled} == {}
