"""The kernels of predicted weights as compiled for a GPU: nothing spilled, nothing per image size."""

from __future__ import annotations

import pytest
import torch

from tests.helpers import needs

if needs.TRITON_INTERNALS_OBSTACLE is not None:
    pytest.skip(needs.TRITON_INTERNALS_OBSTACLE, allow_module_level=True)

from tests.helpers.ahead_of_time import compile_launches, count_compilations  # noqa: E402
from weightformer_mm.ops.depthwise_conv import kernels as conv_kernels  # noqa: E402
from weightformer_mm.ops.depthwise_conv.triton import pool_grid  # noqa: E402
from weightformer_mm.ops.predicted_weight import (  # noqa: E402
    bilateral,
    bilateral_kernels,
    kernels,
    triton,
)  # noqa: E402

HALF = torch.bfloat16


def launch_all(batch: int, height: int, width: int, channels: int) -> None:
    """Each launcher once, on a map of this size."""
    x, hidden = torch.empty(batch, height, width, channels, dtype=HALF), channels // 4
    pooled = triton.pool(x, torch.float32)
    triton.unpool(pooled, x)
    z = torch.empty(batch, pooled.shape[1], hidden + channels)
    core = triton.silu_correlation(z, hidden, height * width)
    triton.silu_correlation_backward(core, z, hidden, height * width, 1.0)
    update = torch.empty(batch, channels, 4 * channels)
    bounded = triton.bounded_update(update, update[0], HALF)
    triton.bounded_update_backward(bounded, update)
    pool_grid(x, 3)
    matrix = torch.empty(hidden + channels, channels), torch.empty(hidden + channels)
    sides = torch.empty(hidden, channels), torch.empty(channels, 4 * channels)
    arguments = (x, update[0], *matrix, *sides, HALF, True)
    out, *kept = bilateral.bilateral_weight(*arguments)
    bilateral.gradients(*arguments[:-2], kept, out, x)


@pytest.mark.parametrize(
    ('channels', 'capability'), [(20, 90), (96, 90), (768, 90), (96, 80), (96, 100)]
)
def test_no_register_is_spilled(channels, capability):
    compiled = compile_launches(launch_all, 2, 64, 80, channels, capability=capability)
    assert len(compiled) == 16
    assert {kernel.name: kernel.spilled for kernel in compiled if kernel.spilled} == {}


@pytest.mark.parametrize('size', [(1, 70000, 1), (1, 1, 70000)])
def test_a_launch_of_any_map_keeps_to_the_limits_of_cuda(size):
    for kernel in compile_launches(launch_all, *size, 4):
        assert all(programs <= 65535 for programs in kernel.grid[1:]), kernel.name


def test_another_image_size_compiles_nothing():
    modules = vars(kernels) | vars(bilateral_kernels)
    every = [kernel for name, kernel in modules.items() if name.endswith('_kernel')]
    every += [conv_kernels.row_sums_kernel, conv_kernels.cell_means_kernel]
    compile_launches(launch_all, 2, 64, 80, 32)
    before = [count_compilations(kernel) for kernel in every]
    assert len(before) == 13
    for size in [(1, 64, 80), (16, 2, 2), (3, 33, 47), (2, 100, 17), (1, 256, 1024)]:
        compile_launches(launch_all, *size, 32)
    assert [count_compilations(kernel) for kernel in every] == before
