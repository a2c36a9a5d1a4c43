"""Each backward pass written by hand gives gradients that can be differentiated, and the right ones."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad

from tests.helpers import mlp_forms, needs
from weightformer_mm import ops
from weightformer_mm.ops.depthwise_conv.torch import eager_conv, pool_grid_whole
from weightformer_mm.ops.mlp import reference
from weightformer_mm.ops.predicted_weight.torch import pool_tokens_whole

CHANNELS, WIDTH = 3, 6


@pytest.fixture(params=mlp_forms.FORMS)
def form(request, monkeypatch):
    """Each way in which the MLP runs on a CPU, four tokens at a time."""
    mlp_forms.force(monkeypatch, request.param, piece=4 * WIDTH)
    return request.param


def draw(*shapes, dtype=torch.float64):
    torch.manual_seed(0)
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def mlp_arguments(batch, per_image, dtype=torch.float64):
    images = batch if per_image else 1
    vectors = [(CHANNELS,), (CHANNELS,), (images, CHANNELS, WIDTH), (WIDTH,), (CHANNELS, WIDTH)]
    return draw((batch, 1, 5, CHANNELS), *vectors, (CHANNELS,), dtype=dtype)


@pytest.mark.usefixtures('form')
@pytest.mark.parametrize('scaled', [False, True])
@pytest.mark.parametrize(('batch', 'per_image'), [(1, False), (2, False), (2, True)])
def test_the_mlp(batch, per_image, scaled):
    scale = torch.linspace(0.5, 2, batch, dtype=torch.float64) if scaled else None
    inputs = mlp_arguments(batch, per_image)
    assert torch.autograd.gradgradcheck(lambda *args: ops.residual_mlp(*args, scale), inputs)


CALLS = {
    'bound': (lambda u, w: ops.with_bounded_update(u, w, 1), [(2, 3, 4), (3, 4)]),
    'convolution': (lambda *args: eager_conv(*args, 1), [(2, 3, 4, 2), (2, 2, 1, 3, 3), (2,)]),
    'dilated': (lambda *args: eager_conv(*args, 2), [(2, 3, 4, 2), (2, 2, 1, 3, 3), (2,)]),
    'grid': (lambda x: pool_grid_whole(x, 3).square(), [(2, 4, 5, 2)]),
    'tokens': (lambda x: pool_tokens_whole(x).square(), [(2, 4, 5, 2)]),
    'update': (ops.bilateral_update, [(2, 5, 4, 4), (5, 4), (5,), (1, 4), (4, 16)]),
}


@pytest.mark.parametrize('name', CALLS)
def test_other_operations(name):
    function, shapes = CALLS[name]
    assert torch.autograd.gradgradcheck(function, draw(*shapes))


@pytest.mark.parametrize('trained', range(7))
def test_where_the_rest_is_frozen(trained, form):
    """The gradient then depends on nothing that needs a gradient but the trained tensor itself."""
    inputs = mlp_arguments(2, per_image=True)
    for index, tensor in enumerate(inputs):
        tensor.requires_grad_(index == trained)

    def second(function):
        (slope,) = torch.autograd.grad(
            function(*inputs).sin().sum(), inputs[trained], create_graph=True
        )
        return torch.autograd.grad(slope.square().sum(), inputs[trained])[0]

    expected = second(reference.residual_mlp)
    torch.testing.assert_close(second(ops.residual_mlp), expected, rtol=1e-9, atol=1e-12)


def test_under_autocast_as_exact_as_the_reference(form):
    inputs = mlp_arguments(2, per_image=True, dtype=torch.float32)

    def second(function, leaves, autocast):
        with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
            output = function(*leaves).double()
        slopes = torch.autograd.grad(output.sin().sum(), leaves, create_graph=True)
        total = sum(slope.double().square().sum() for slope in slopes)
        return [slope.detach().double() for slope in (*slopes, *torch.autograd.grad(total, leaves))]

    doubles = [tensor.detach().double().requires_grad_() for tensor in inputs]
    exact = second(reference.residual_mlp, doubles, autocast=False)
    eager = second(reference.residual_mlp, inputs, autocast=True)
    for result, other, truth in zip(second(ops.residual_mlp, inputs, True), eager, exact):
        error, allowed = (float((value - truth).norm()) for value in (result, other))
        assert error <= 2 * allowed + torch.finfo(torch.bfloat16).eps * float(truth.norm())


@pytest.mark.usefixtures('form')
def test_forward_mode_agrees():
    inputs = mlp_arguments(2, per_image=True)
    directions = [torch.randn_like(tensor) for tensor in inputs]
    (_, expected) = torch.func.jvp(reference.residual_mlp, tuple(inputs), tuple(directions))
    with forward_ad.dual_level():
        duals = map(forward_ad.make_dual, inputs, directions)
        found = forward_ad.unpack_dual(ops.residual_mlp(*duals)).tangent
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@needs.custom_operators
@pytest.mark.parametrize('name', ['convolution', 'grid', 'tokens'])
def test_operators_drop_no_forward_derivative_silently(name):
    function, shapes = CALLS[name]
    first, *rest = [tensor.detach() for tensor in draw(*shapes)]
    with pytest.raises((RuntimeError, NotImplementedError), match='forward'):
        torch.func.jvp(lambda x: function(x, *rest), (first,), (torch.ones_like(first),))
