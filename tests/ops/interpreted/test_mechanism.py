"""The folder's own conditions: interpreted where asked for, and no unwritten element goes unnoticed."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from triton.runtime.jit import JITFunction


@triton.jit
def _ones_kernel(out, size, BLOCK: tl.constexpr):
    index = tl.arange(0, BLOCK)
    tl.store(out + index, 1.0, mask=index < size)


def test_kernels_are_interpreted_on_the_cpu(device):
    assert isinstance(_ones_kernel, JITFunction) == (device.type == 'cuda')


ALLOCATIONS = {
    'empty': lambda device: torch.empty(8, device=device),
    'empty_like': lambda device: torch.empty_like(torch.zeros(8, device=device)),
    'new_empty': lambda device: torch.zeros(0, device=device).new_empty(8),
}


@pytest.mark.parametrize('name', ALLOCATIONS)
def test_unwritten_elements_are_nan(name, device):
    out = ALLOCATIONS[name](device)
    _ones_kernel[(1,)](out, 5, BLOCK=8)
    assert torch.equal(out[:5], torch.ones(5, device=device))
    assert out[5:].isnan().all()


@triton.jit
def _convert_kernel(x, out, BLOCK: tl.constexpr):
    index = tl.arange(0, BLOCK)
    tl.store(out + index, tl.load(x + index).to(out.dtype.element_ty))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_conversion_rounds_to_nearest(dtype, device):
    x = torch.randn(256, device=device)
    out = torch.empty(256, dtype=dtype, device=device)
    _convert_kernel[(1,)](x, out, BLOCK=256)
    assert torch.equal(out, x.to(dtype))
