"""Predictions in few launches give what PyTorch gives, as exactly, outputs and all gradients."""

from __future__ import annotations

import functools

import pytest
import torch

from tests.helpers import accuracy
from tests.helpers.pairs import DTYPES, pairs
from weightformer_mm import ops
from weightformer_mm.ops.predicted_weight import bilateral

MAPS = [(1, 1, 7, 3), (2, 6, 2, 20), (3, 5, 3, 36), (1, 9, 70, 5)]


def draw(*shapes, dtype=torch.float32, device='cpu'):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes]


def norm_and_grid(*args, size, backend):
    normed, grid = ops.norm_and_grid(*args, 1e-6, size, backend)
    # PyTorch's means of a map in half precision are those of the rounded map, in float32, as ours
    return normed, grid


@pytest.mark.parametrize(('shape', 'dtype'), pairs(MAPS), ids=str)
@pytest.mark.parametrize('size', [3, 2, 5])
def test_norm_and_grid(shape, dtype, size, device):
    args = draw(shape, shape[-1:], shape[-1:], dtype=dtype, device=device)
    accuracy.check(functools.partial(norm_and_grid, size=size), args)


def test_norm_whose_grid_alone_is_used(device):
    args = draw((2, 5, 4, 20), (20,), (20,), device=device)

    def grid(*args, backend):
        return norm_and_grid(*args, size=3, backend=backend)[1]

    accuracy.check(grid, args)


@pytest.mark.parametrize(
    ('images', 'channels', 'size'), [(1, 3, 3), (3, 20, 3), (2, 70, 1), (2, 3, 5)]
)
def test_adaptive_kernel(images, channels, size, device):
    matrix = (channels, channels, 1, 1)
    args = draw(
        *((images, size, size, channels), matrix, (channels,), matrix),
        (channels, 1, size, size),
        device=device,
    )
    # the error of PyTorch's own gradients changes tenfold with the order of the hidden units
    orders = [
        torch.randperm(channels, generator=torch.Generator().manual_seed(i)) for i in range(4)
    ]
    accuracy.check(
        ops.adaptive_kernel, args, reordered=[functools.partial(reordered, o) for o in orders]
    )


def reordered(order, grid, hidden_weight, hidden_bias, out_weight, weight, backend):
    order = order.to(grid.device)
    hidden = hidden_weight[order], hidden_bias[order], out_weight[:, order]
    return ops.adaptive_kernel(grid, *hidden, weight, backend)


def test_gradients_for_a_grid_with_strides(device):
    grid, *parameters = draw(
        *((3, 3, 5, 2), (5, 5, 1, 1), (5,), (5, 5, 1, 1), (5, 1, 3, 3)), device=device
    )
    found = []
    for use in (lambda value: value, torch.Tensor.contiguous):
        leaves = [value.clone().requires_grad_() for value in parameters]
        taps = ops.adaptive_kernel(use(grid.permute(3, 0, 1, 2)), *leaves, backend='triton')
        found.append(torch.autograd.grad(taps.square().sum(), leaves))
    assert all(map(torch.equal, *found))


def test_an_update_of_length_zero_has_gradients(device):
    args = draw((1, 3, 3, 4), (4, 4, 1, 1), (4,), (4, 4, 1, 1), (4, 1, 3, 3), device=device)
    args[3].zero_()
    accuracy.check(ops.adaptive_kernel, args)


@pytest.mark.parametrize('parameters', DTYPES, ids=str)
@pytest.mark.parametrize(('shape', 'dtype'), pairs(MAPS), ids=str)
def test_bilateral_weight(shape, dtype, parameters, device):
    channels, left, right, columns = shape[-1], 5, 9, 18
    hidden = left + right
    shapes = (channels, columns), (hidden, channels), (hidden,), (left, channels), (right, columns)
    args = draw(shape, dtype=dtype, device=device) + draw(*shapes, dtype=parameters, device=device)

    def run(*args, backend):
        dtype = torch.float64 if args[0].dtype == torch.float64 else torch.bfloat16
        return ops.bilateral_weight(*args, dtype=dtype, backend=backend)

    accuracy.check(run, args)


def test_programs_of_the_expansion_compute_one_image_each(device):
    shapes = (3, 33, 50), (3, 33, 50), (3, 17, 40), (17, 33), (40, 50)
    grad, update, core, *sides = draw(*shapes, device=device)
    together = bilateral.expansion_grad(grad, update, core, *sides)
    each = [
        bilateral.expansion_grad(*(value[i : i + 1] for value in (grad, update, core)), *sides)
        for i in range(3)
    ]
    assert all(map(torch.equal, together, map(torch.cat, zip(*each))))


def test_many_parts_of_tokens_are_summed(device, monkeypatch):
    monkeypatch.setattr('weightformer_mm.ops.predicted_weight.triton._MIN_TOKENS_PER_SPLIT', 4)
    shapes = (1, 17, 16, 4), (4, 12), (7, 4), (7,), (3, 4), (4, 12)
    args = draw(*shapes, device=device)
    with torch.no_grad():
        expected = ops.bilateral_weight(*[arg.double() for arg in args], backend='torch')
        for most in (3, 100):  # summed before the last kernel, or in it
            monkeypatch.setattr(bilateral, 'MOST_SPLITS', most)
            found = ops.bilateral_weight(*args, backend='triton')
            torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_autocast_changes_no_gradient(device):
    shapes = (2, 6, 5, 8), (8, 16), (6, 8), (6,), (2, 8), (4, 16)
    results = []
    for enabled in (False, True):
        args = [arg.requires_grad_() for arg in draw(*shapes, device=device)]
        out = ops.bilateral_weight(*args, dtype=torch.float32, backend='triton')
        with torch.autocast(device.type, torch.bfloat16, enabled=enabled):
            out.square().sum().backward()
        results.append([arg.grad for arg in args])
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize('wrong', range(1, 6))
def test_wrong_shapes_of_the_bilateral_weight(wrong, device):
    shapes = [(1, 2, 3, 4), (4, 12), (7, 4), (7,), (3, 4), (4, 12)]
    shapes[wrong] = (shapes[wrong][0] + 1, *shapes[wrong][1:])
    for backend in ('torch', 'triton'):
        with pytest.raises(ValueError, match='expected'):
            ops.bilateral_weight(*draw(*shapes, device=device), backend=backend)


@pytest.mark.parametrize('wrong', range(5))
def test_wrong_shapes_of_the_adaptive_kernel(wrong, device):
    shapes = [(1, 3, 3, 4), (4, 4, 1, 1), (4,), (4, 4, 1, 1), (4, 1, 3, 3)]
    shapes[wrong] = (*shapes[wrong][:-1], shapes[wrong][-1] + 1)
    for backend in ('torch', 'triton'):
        with pytest.raises(ValueError, match='expected'):
            ops.adaptive_kernel(*draw(*shapes, device=device), backend=backend)
