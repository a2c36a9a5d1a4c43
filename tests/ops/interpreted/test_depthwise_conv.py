"""The depthwise convolution's kernels give what PyTorch gives, as exactly."""

from __future__ import annotations

import functools

import pytest
import torch

from tests.helpers import accuracy
from tests.helpers.pairs import pairs
from weightformer_mm import ops
from weightformer_mm.ops.depthwise_conv import triton

# B, H, W, C: one pixel high and wide, odd, several tiles of columns, strips of rows and blocks of channels
SHAPES = [
    (1, 1, 7, 1),
    (3, 5, 1, 20),
    (1, 9, 17, 20),
    (3, 3, 2, 4),
    (1, 2, 3, 96),
    (1, 3, 4, 112),
    (1, 1, 2, 384),
    (2, 1, 513, 1),
]


def arguments(shape, images, size=3, dtype=torch.float32, parameters=None, device='cpu'):
    """A map, kernels and a bias; the map in ``dtype``, the rest in ``parameters`` or the same."""
    generator = torch.Generator().manual_seed(0)
    channels = shape[-1]
    shapes = [shape, (images, channels, 1, size, size), (channels,)]
    dtypes = [dtype, parameters or dtype, parameters or dtype]
    return [
        torch.randn(shape, generator=generator).to(device, dtype)
        for shape, dtype in zip(shapes, dtypes)
    ]


def check(args, residual):
    function = functools.partial(ops.depthwise_conv, residual=residual)
    accuracy.check(function, args, accuracy.magnitudes(function, args))


@pytest.mark.parametrize(('shape', 'dtype'), pairs(SHAPES), ids=str)
def test_one_kernel_per_image_with_residual(shape, dtype, device):
    check(arguments(shape, shape[0], dtype=dtype, device=device), residual=True)


@pytest.mark.parametrize(
    'shape', [(3, 5, 1, 20), (3, 3, 2, 4), (1, 2, 3, 96), (2, 1, 513, 1)], ids=str
)
def test_one_kernel_for_all_images(shape, device):
    args = arguments(shape, 1, dtype=torch.bfloat16, parameters=torch.float32, device=device)
    check(args, residual=False)


@pytest.mark.parametrize(
    ('options', 'dtype'), pairs([(1, False), (1, True), (2, False), (2, True)]), ids=str
)
def test_every_combination(options, dtype, device):
    images, residual = options
    check(arguments((2, 3, 2, 5), images, dtype=dtype, device=device), residual)


@pytest.mark.parametrize('size', [1, 5])
def test_other_sizes_of_the_kernel_are_left_to_pytorch(size, device):
    args = arguments((2, 2, 3, 4), 2, size, device=device)
    with pytest.raises(ValueError, match='3x3'):
        ops.depthwise_conv(*args, backend='triton')
    assert ops.depthwise_conv(*args).shape == args[0].shape


def test_kernel_larger_than_the_map(device):
    check(arguments((1, 2, 1, 3), 1, device=device), residual=False)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_rounds_once(dtype, device):
    """Sums, taps and residual are those of float32; a map and its gradient are rounded at the very end."""
    args = arguments((2, 2, 17, 5), 2, 3, dtype, torch.float32, device)
    function = functools.partial(ops.depthwise_conv, residual=True, backend='triton')
    results = accuracy.run(function, args)
    expected = accuracy.run(function, [args[0].float(), *args[1:]])
    for result, full in zip(results, expected):
        assert torch.equal(result, full.to(result.dtype))


@pytest.mark.parametrize('images', [1, 2])
def test_every_run_gives_the_same_bits(images, monkeypatch, device):
    monkeypatch.setattr(triton, 'FEWEST_ROWS', 1)  # several strips of each image
    args = arguments((2, 2, 3, 4), images, 3, torch.bfloat16, torch.float32, device)
    function = functools.partial(ops.depthwise_conv, backend='triton')
    first = accuracy.run(function, args)
    assert all(map(torch.equal, first, accuracy.run(function, args)))


def test_a_strip_of_any_length(monkeypatch, device):
    args = arguments((1, 3, 3, 4), 1, device=device)
    expected = accuracy.run(functools.partial(ops.depthwise_conv, backend='torch'), args)
    for rows in (1, 3, 64):
        monkeypatch.setattr(triton, 'FEWEST_ROWS', rows)
        results = accuracy.run(functools.partial(ops.depthwise_conv, backend='triton'), args)
        for result, reference in zip(results, expected):
            torch.testing.assert_close(result, reference, rtol=1e-5, atol=1e-5)


def test_a_large_map_is_split_into_longer_strips():
    splits = [
        triton._split(torch.empty((1, size, size, 64), device='meta'), 16, 32)
        for size in (8, 256, 1024, 4096)
    ]
    assert [rows for rows, _ in splits] == [8, 8, 64, 64]
    assert [tiles_ for _, tiles_ in splits] == [1, 16 * 32, 64 * 16, 256 * 64]


@pytest.mark.parametrize('shape', [(0, 4, 4, 3), (2, 0, 4, 3), (2, 4, 0, 3)], ids=str)
def test_empty_map(shape, device):
    args = arguments(shape, 1, device=device)
    for result, arg in zip(
        accuracy.run(functools.partial(ops.depthwise_conv, backend='triton'), args),
        [args[0], *args],
    ):
        assert torch.equal(result, torch.zeros_like(arg))


LAYOUTS = {
    'channels first': lambda x: x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
    'every other image': lambda x: x.repeat_interleave(2, dim=0)[::2],
    'part of the channels': lambda x: torch.cat([x, x], dim=-1)[..., : x.shape[-1]],
    'expanded': lambda x: x[:1, :1].expand(x.shape),
}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_layout_of_the_inputs(layout, device):
    x, kernel, bias = arguments((2, 2, 3, 6), 2, device=device)
    x = LAYOUTS[layout](x)
    kernel, bias = kernel[:1].expand(2, -1, -1, -1, -1), bias[:1].expand(6)
    upstream = LAYOUTS[layout](torch.randn_like(x))
    args = [arg.requires_grad_() for arg in (x.detach(), kernel, bias)]
    copies = [arg.detach().contiguous().requires_grad_() for arg in args]
    outputs = [
        ops.depthwise_conv(*leaves, residual=True, backend='triton') for leaves in (args, copies)
    ]
    assert outputs[0].is_contiguous()
    assert torch.equal(*outputs)
    for grads in zip(
        *(torch.autograd.grad(o, a, upstream) for o, a in zip(outputs, (args, copies)))
    ):
        assert torch.equal(*grads)


@pytest.mark.parametrize('needed', range(3))
def test_only_one_gradient_is_needed(needed, device):
    args = arguments((2, 2, 3, 4), 2, device=device)
    expected = accuracy.run(functools.partial(ops.depthwise_conv, backend='triton'), args)
    args[needed].requires_grad_()
    out = ops.depthwise_conv(*args, backend='triton')
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).bfloat16().float()
    out.backward(upstream.to(device))
    assert torch.equal(args[needed].grad, expected[1 + needed])
    assert all(arg.grad is None for index, arg in enumerate(args) if index != needed)
