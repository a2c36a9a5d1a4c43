"""The MLP's kernels give what PyTorch gives in half precision, as exactly, outputs and all gradients."""

from __future__ import annotations

import functools

import pytest
import torch

from tests.helpers import accuracy
from weightformer_mm import ops
from weightformer_mm.ops.mlp import reference, triton

HALF = [torch.bfloat16, torch.float16]
# batch, height, width, channels, hidden width; none a multiple of a tile, and one that is split over tokens
SHAPES = [(1, 1, 1, 3, 5), (2, 5, 7, 20, 72), (3, 9, 2, 66, 130), (1, 33, 17, 32, 48)]


def arguments(shape, per_image, dtype, parameters=None, device='cpu'):
    """A map, its LayerNorm and the parameters, sized so that the terms of a sum have about one size."""
    batch, height, width, channels, hidden = shape
    generator = torch.Generator().manual_seed(0)

    def draw(*sizes, scale=1.0):
        return torch.randn(sizes, generator=generator) * scale

    maps = [draw(batch, height, width, channels) for _ in range(2)]
    weights = [
        draw(batch if per_image else 1, channels, hidden, scale=channels**-0.5),
        draw(hidden),
        draw(channels, hidden, scale=hidden**-0.5),
        draw(channels),
    ]
    maps = [tensor.to(device, dtype) for tensor in maps]
    return [*maps, *(tensor.to(device, parameters or dtype) for tensor in weights)]


def mlp(x, normed, *parameters, backend, scale=None):
    norm = x.new_ones(x.shape[-1])
    scale = None if scale is None else scale.to(x)
    if backend == 'torch':
        return reference.residual_mlp(x, norm, norm, *parameters, scale, normed)
    return ops.residual_mlp(x, norm, norm, *parameters, scale, normed, backend=backend)


@pytest.mark.parametrize('dtype', HALF, ids=str)
@pytest.mark.parametrize('shape', SHAPES, ids=str)
@pytest.mark.parametrize('per_image', [True, False], ids=['per image', 'shared'])
def test_as_exact_as_pytorch(shape, per_image, dtype, device):
    # a gradient of a weight sums products over all tokens, which cancel
    args = arguments(shape, per_image, dtype, device=device)
    accuracy.check(mlp, args)


def test_the_scale_of_each_branch(device):
    scale = torch.tensor([0.0, 2.0, 1.25])
    args = arguments(SHAPES[2], False, torch.float16, device=device)
    accuracy.check(functools.partial(mlp, scale=scale), args)


@pytest.mark.parametrize('transposed', [True, False])
def test_parameters_in_float32_under_autocast(transposed, device):
    args = arguments(SHAPES[1], False, torch.bfloat16, torch.float32, device)

    def run(*args, backend):
        x, normed, weight1, *others = args
        if transposed:  # as nn.Linear keeps it
            weight1 = weight1.transpose(1, 2).contiguous().transpose(1, 2)
        double = x.dtype == torch.float64
        with torch.autocast(device.type, torch.bfloat16, enabled=not double):
            return mlp(x, normed, weight1, *others, backend=backend)

    accuracy.check(run, args)


def test_without_gradients_nothing_is_kept(device):
    args = arguments(SHAPES[1], True, torch.bfloat16, device=device)
    expected = mlp(*args, backend='triton')
    with torch.no_grad():
        assert torch.equal(mlp(*args, backend='triton'), expected)
        halves = args[2], args[4]
        out, hidden = triton.residual_mlp(*args, None, *halves, False)
    assert torch.equal(out, expected) and hidden.numel() == 0


@pytest.mark.parametrize('per_image', [True, False])
@pytest.mark.parametrize(('channels', 'dtype'), [(20, HALF[0]), (32, HALF[1]), (66, HALF[0])])
def test_channels_in_two_tiles(channels, dtype, per_image, device, monkeypatch):
    monkeypatch.setattr(triton, 'MOST_NARROW', 16)
    monkeypatch.setattr(triton, '_is_whole', lambda x: True)
    monkeypatch.setattr(triton, 'linear', None)
    args = arguments((2, 9, 8, channels, 72), per_image, dtype, device=device)
    scale = torch.tensor([0.0, 1.25])
    with torch.no_grad():
        exact = mlp(*(arg.double() for arg in args), backend='torch', scale=scale)
        eager, found = (mlp(*args, backend=name, scale=scale) for name in ('torch', 'triton'))
    errors = [float((out.double() - exact).abs().max()) for out in (found, eager)]
    assert found.dtype == dtype and errors[0] <= 2 * errors[1]


def test_a_gpu_is_not_asked_about_a_map_that_is_not_on_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', None)
    assert triton._is_whole(torch.empty(1, 128, 128, triton.MOST_WHOLE))


def test_empty_batch(device):
    args = arguments((0, 3, 4, 8, 16), False, torch.bfloat16, device=device)
    results = accuracy.run(functools.partial(mlp, backend='triton'), args)
    for result, arg in zip(results, [args[0], *args]):
        assert torch.equal(result, torch.zeros_like(arg))


def test_every_run_gives_the_same_bits(device):
    args = arguments(SHAPES[3], True, torch.bfloat16, device=device)
    first, second = (accuracy.run(functools.partial(mlp, backend='triton'), args) for _ in range(2))
    assert all(map(torch.equal, first, second))


def test_a_float32_residual_under_autocast(device):
    """As after a module that somebody hooked, which PyTorch runs in float32."""
    x, normed, *parameters = arguments(SHAPES[1], False, torch.bfloat16, torch.float32, device)

    def run(*args, backend):
        with torch.autocast(device.type, torch.bfloat16, enabled=args[1].dtype != torch.float64):
            return mlp(*args, backend=backend)

    accuracy.check(run, [x.float(), normed, *parameters])


@pytest.mark.parametrize('per_image', [True, False])
def test_tensors_in_any_layout(per_image, device):
    args = arguments((2, 5, 7, 20, 40), per_image, torch.float16, device=device)
    scale = torch.tensor([0.5], device=device).half().expand(2)
    strided = [
        *(tensor.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1) for tensor in args[:2]),
        args[2].transpose(1, 2).contiguous().transpose(1, 2),
        torch.stack([args[3], args[3]], 1)[:, 0],
        args[4].T.contiguous().T,
        torch.stack([args[5], args[5]], 1)[:, 0],
    ]
    results = []
    for given, factor in ((args, scale.contiguous()), (strided, scale)):
        leaves = [tensor.detach().requires_grad_() for tensor in given]  # keeps the layout
        out = mlp(*leaves, backend='triton', scale=factor)
        with torch.no_grad():
            whole = mlp(*leaves, backend='triton', scale=factor)
        out.backward(args[0])
        results.append([whole, out.detach(), *(leaf.grad for leaf in leaves)])
    for result, expected in zip(*results):
        assert torch.equal(result, expected)
