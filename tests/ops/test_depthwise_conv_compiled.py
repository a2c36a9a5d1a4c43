"""The depthwise convolution's kernels compile for a GPU, keep all they need in registers, and do so once."""

from __future__ import annotations

import functools

import pytest
import torch

from tests.helpers import needs

if needs.TRITON_INTERNALS_OBSTACLE is not None:
    pytest.skip(needs.TRITON_INTERNALS_OBSTACLE, allow_module_level=True)

from tests.helpers.ahead_of_time import compile_launches, count_compilations  # noqa: E402
from weightformer_mm.ops.depthwise_conv import adaptive, kernels, triton  # noqa: E402
from weightformer_mm.ops.layer_norm import kernels as norm_kernels  # noqa: E402
from weightformer_mm.ops.layer_norm.triton import norm_grad  # noqa: E402

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def launches(dtype, channels, shape=(2, 40, 40), capability=90):
    """All kernels that a training step with the convolution, and one with its LayerNorm, launches."""
    x = torch.zeros(*shape, channels, dtype=dtype)
    kernel = torch.zeros(shape[0], channels, 1, 3, 3)
    vector, grid = torch.zeros(channels), torch.zeros(shape[0], 3, 3, channels)
    compiled_for = functools.partial(compile_launches, capability=capability)
    compiled = compiled_for(triton.depthwise_conv, x, kernel, vector, True)
    compiled += compiled_for(triton.conv_grad, x, x, kernel, True)
    compiled += compiled_for(triton.conv_norm, x, kernel, *[vector] * 3, 1e-6, True)
    compiled += compiled_for(norm_grad, x, x, grid, x, vector, vector, 1e-6)
    compiled += compiled_for(
        triton.conv_norm_grad, *(x, x, kernel, x, x), *[vector] * 2, 1e-6, True
    )
    compiled += compiled_for(adaptive.norm_and_grid, x, vector, vector, 1e-6, dtype, 3)
    kernel, matrix = kernel[0], torch.zeros(channels, channels, 1, 1)
    compiled += compiled_for(adaptive.adaptive_kernel, grid, matrix, vector, matrix, kernel)
    hidden = torch.zeros(1, 9, channels)
    compiled += compiled_for(adaptive.bounded_taps_grad, *[kernel[None]] * 2, matrix, hidden)
    return compiled


@pytest.mark.parametrize('channels', [1, 20, 64, 512])
@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_nothing_spills(dtype, channels):
    compiled = launches(dtype, channels)
    assert len(compiled) == 12
    for kernel in compiled:
        assert kernel.spilled == 0, f'{kernel.name}: {kernel.spilled} bytes'


@pytest.mark.parametrize('capability', [80, 100])
def test_next_to_nothing_spills_on_other_gpus(capability):
    compiled = launches(torch.bfloat16, 320, capability=capability)
    # four registers of the convolution with its norm, whose 512 threads have 128 each on Blackwell
    assert {kernel.name: kernel.spilled for kernel in compiled if kernel.spilled > 16} == {}


@pytest.mark.parametrize('channels', [64, 512])
@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_a_multiprocessor_holds_sixteen_warps(dtype, channels):
    for kernel in launches(dtype, channels):
        # ten sums and five rows of a float32 map: twelve
        many = kernel.name == 'conv3x3_grad_kernel' and dtype == torch.float32
        most = 65536 // (32 * (12 if many else 16))
        assert kernel.registers <= most, f'{kernel.name}: {kernel.registers} registers'


@pytest.mark.parametrize(
    ('dtype', 'width'), [(torch.float32, 'v4.b32'), (torch.bfloat16, 'v2.b32')], ids=str
)
def test_four_elements_are_loaded_and_stored_at_once(dtype, width):
    for kernel in launches(dtype, 64)[:2]:
        assert kernel.ptx.count(f'ld.global.{width}') >= 7, kernel.name
        assert kernel.ptx.count(f'st.global.{width}') == 1, kernel.name


def test_no_size_and_no_number_of_images_compiles_again():
    functions = [kernels.conv3x3_kernel, kernels.conv3x3_grad_kernel, kernels.cell_means_kernel]
    functions += [kernels.sums_kernel]
    functions += [norm_kernels.layer_norm_grad_kernel, norm_kernels.norm_sums_kernel]
    counts = []
    for shape in [(2, 16, 16), (1, 1, 1), (3, 17, 100), (16, 32, 48), (2, 401, 3)]:
        launches(torch.bfloat16, 160, shape=shape)
        counts.append([count_compilations(function) for function in functions])
    assert counts == counts[:1] * len(counts)


def test_every_tile_has_a_program():
    x = torch.zeros(3, 33, 35, 96, dtype=torch.bfloat16)
    kernel, vector = torch.zeros(1, 96, 1, 3, 3), torch.zeros(96)
    (conv,) = compile_launches(triton.depthwise_conv, x, kernel, vector, True)
    (norm,) = compile_launches(triton.conv_norm, x, kernel, *[vector] * 3, 1e-6, True)
    strips = 5  # of 8 rows
    assert conv.grid == (3 * strips * 3 * 3,)  # images, strips, 16 columns, 32 channels
    assert norm.grid == (3 * strips * 5,)  # images, strips, 8 columns
