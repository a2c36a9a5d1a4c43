"""The kernels of the coarse grid a depthwise kernel is predicted from, judged by PyTorch's error."""

from __future__ import annotations

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.helpers import accuracy, needs
from tests.helpers.pairs import pairs
from weightformer_mm import ops
from weightformer_mm.ops._shared import dispatch
from weightformer_mm.ops.depthwise_conv import triton

SHAPES = [  # B, H, W, C, cells along a side
    (1, 1, 1, 1, 3),
    (3, 1, 7, 20, 3),
    (2, 9, 2, 4, 3),
    (5, 2, 3, 20, 3),
    (1, 7, 4, 112, 5),
    (1, 3, 200, 4, 3),
    (1, 52, 2, 112, 3),
    (1, 4, 3, 384, 3),
]


def adaptive_arguments(shape, dtype, device) -> list[Tensor]:
    torch.manual_seed(0)
    batch, height, width, channels, _ = shape
    x = torch.randn(batch, height, width, channels, device=device).to(dtype)
    weights = [torch.randn(channels, channels, 1, 1, device=device) for _ in range(2)]
    hidden, out = (weight * channels**-0.5 for weight in weights)
    bias = torch.randn(channels, device=device)
    return [x, hidden, bias, out]


def adaptive(size: int):
    def update(x, *weights, backend):
        return ops.adaptive_update(x, size, *weights, backend=backend)

    return update


@pytest.mark.parametrize(('shape', 'dtype'), pairs(SHAPES), ids=str)
def test_adaptive_update(shape, dtype, device):
    function, arguments = adaptive(shape[-1]), adaptive_arguments(shape, dtype, device)
    # the sums' terms may cancel to a quarter
    accuracy.check(function, arguments, cancelled=4)


@pytest.mark.parametrize(
    ('size', 'height'), [(1, 1), (7, 1), (2, 2), (3, 2), (3, 6), (7, 6), (2, 13), (7, 13)]
)
def test_cells_are_those_of_pytorch(size, height, device):
    """Also where cells share pixels, or one pixel is in many of them."""
    torch.manual_seed(0)
    x = torch.randn(1, height, 11, 5, device=device)
    results = accuracy.run(lambda x: triton.pool_grid(x, size), [x])
    expected = accuracy.run(
        lambda x: F.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), size).permute(0, 2, 3, 1), [x]
    )
    torch.testing.assert_close(results, expected, rtol=1e-5, atol=1e-6)


def test_every_run_gives_the_same_bits(device):
    arguments = adaptive_arguments((2, 5, 4, 20, 3), torch.bfloat16, device)
    update = functools.partial(adaptive(3), backend='triton')
    first, second = (accuracy.run(update, arguments) for _ in range(2))
    assert all(map(torch.equal, first, second))


def test_sums_may_exceed_float16(device):
    x = torch.full((1, 6, 6, 4), 6e4, dtype=torch.float16, device=device)
    assert torch.equal(triton.pool_grid(x, 3), x[:, :3, :3].float())


def test_no_image(device):
    x = torch.zeros(0, 4, 6, 8, device=device)
    assert triton.pool_grid(x, 3).shape == (0, 3, 3, 8)


@needs.custom_operators
def test_the_operator_keeps_the_rules_of_pytorch(device):
    x = torch.randn(2, 5, 3, 4, device=device).half().requires_grad_()
    torch.library.opcheck(torch.ops.weightformer_mm.pool_grid.default, (x, 2))


def test_what_the_kernels_cannot_do_is_said(device, monkeypatch):
    arguments = [argument.double() for argument in adaptive_arguments(SHAPES[0], None, device)]
    with pytest.raises(ValueError, match='float64'):
        adaptive(3)(*arguments, backend='triton')
    monkeypatch.setattr(dispatch, '_default', 'triton')
    with pytest.raises(ValueError, match='float64'):
        adaptive(3)(*arguments, backend='auto')
    adaptive(3)(*arguments, backend='torch')
