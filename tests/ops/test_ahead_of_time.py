"""What is read off a kernel that was compiled without a GPU."""

from __future__ import annotations

import pytest
import torch

from tests.helpers import needs

if needs.TRITON_INTERNALS_OBSTACLE is not None:
    pytest.skip(needs.TRITON_INTERNALS_OBSTACLE, allow_module_level=True)

import triton  # noqa: E402
import triton.language as tl  # noqa: E402

from tests.helpers.ahead_of_time import compile_launches, count_compilations  # noqa: E402


@triton.jit
def _softmax_kernel(x, out, size, BLOCK: tl.constexpr):
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(x + index, mask=index < size)
    tl.store(out + index, tl.softmax(values.to(tl.float32)), mask=index < size)


def launch(x, block, warps):
    out = torch.empty_like(x)
    _softmax_kernel[(triton.cdiv(len(x), block),)](x, out, len(x), BLOCK=block, num_warps=warps)


def test_a_launch_is_compiled():
    (kernel,) = compile_launches(launch, torch.zeros(4096, dtype=torch.bfloat16), 1024, 4)
    assert (kernel.name, kernel.grid, kernel.warps) == ('_softmax_kernel', (4,), 4)
    assert '.target sm_90a' in kernel.ptx
    assert 0 < kernel.registers < 255
    assert kernel.spilled == 0 < kernel.shared


def test_spilling_is_seen():
    (kernel,) = compile_launches(launch, torch.zeros(1 << 15), 1 << 15, 4)
    assert kernel.spilled > 0


def test_compilations_are_counted():
    before = count_compilations(_softmax_kernel)
    for size in (512, 1024, 2048):  # all of them multiples of 16
        compile_launches(launch, torch.zeros(size, dtype=torch.float16), 512, 4)
    assert count_compilations(_softmax_kernel) == before + 1
