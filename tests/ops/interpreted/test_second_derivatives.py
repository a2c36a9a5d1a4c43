"""Gradients of gradients through the Triton operators, against PyTorch in float64."""

from __future__ import annotations

import functools

import pytest
import torch
from torch.autograd import forward_ad

from weightformer_mm import ops

MAP = (2, 5, 6, 8)  # B, H, W, C
# shapes of the arguments, and the function
CASES = {
    'conv': ([MAP, (2, 8, 1, 3, 3), (8,)], functools.partial(ops.depthwise_conv, residual=True)),
    'conv, shared kernel': ([MAP, (1, 8, 1, 3, 3), (8,)], ops.depthwise_conv),
    'conv and norm': (
        [MAP, (2, 8, 1, 3, 3), (8,), (8,), (8,)],
        functools.partial(ops.depthwise_conv_norm, eps=1e-6),
    ),
    'norm alone': (
        [MAP, (2, 8, 1, 3, 3), (8,), (8,), (8,)],
        lambda *args, **options: ops.depthwise_conv_norm(*args, eps=1e-6, **options)[1],
    ),
    'adaptive': (
        [MAP, (8, 8, 1, 1), (8,), (8, 8, 1, 1)],
        lambda x, *args, **options: ops.adaptive_update(x, 3, *args, **options),
    ),
    'bilateral': ([MAP, (10, 8), (10,), (2, 8), (8, 32)], ops.bilateral_update),
    'bounded': ([(2, 8, 6), (8, 6)], functools.partial(ops.with_bounded_update, dim=1)),
    'pooled': ([(2, 5, 6, 8)], lambda x, **options: ops.pool_tokens(x, **options).square()),
}


def draw(shapes, device):
    torch.manual_seed(0)
    return [torch.randn(shape, device=device) for shape in shapes]


def second_derivatives(function, arguments):
    """Gradients, and the gradients of their products with fixed tensors."""
    leaves = [argument.clone().requires_grad_() for argument in arguments]
    outputs = function(*leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    generator = torch.Generator().manual_seed(1)

    def drawn(like):
        return [torch.randn(x.shape, generator=generator).to(x) for x in like]

    # constants: the gradients depend on the arguments alone
    first = torch.autograd.grad(outputs, leaves, drawn(outputs), create_graph=True)
    again = [gradient for gradient in first if gradient.requires_grad]
    second = torch.autograd.grad(again, leaves, drawn(again), allow_unused=True)
    return [gradient for gradient in (*first, *second) if gradient is not None]


@pytest.mark.parametrize('name', CASES)
def test_second_derivatives(name, device):
    shapes, function = CASES[name]
    arguments = draw(shapes, device)
    expected = second_derivatives(
        functools.partial(function, backend='torch'), [x.double() for x in arguments]
    )
    found = second_derivatives(functools.partial(function, backend='triton'), arguments)
    assert len(found) == len(expected)
    for result, truth in zip(found, expected):
        # sums of at most a few hundred terms in float32
        error = float((result - truth).abs().max())
        assert error <= 1e-5 * max(1, float(truth.abs().max()))


@pytest.mark.parametrize('name', CASES)
def test_forward_mode_is_refused(name, device):
    shapes, function = CASES[name]
    arguments = draw(shapes, device)
    with forward_ad.dual_level(), pytest.raises(ValueError, match='forward-mode'):
        function(*arguments, backend='triton')
    with pytest.raises(ValueError, match=r'torch\.func'):
        torch.func.vmap(lambda _: function(*arguments, backend='triton'))(torch.zeros(2))
