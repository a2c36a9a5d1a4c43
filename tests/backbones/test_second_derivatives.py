"""Whole networks can be differentiated twice, in every way of asking, or say that they cannot."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad, functional

from tests.helpers import mlp_forms
from tests.helpers.contract import MODES, NETWORKS, build
from weightformer_mm.backbones.strategies import ATTENTION, compared_strategies

STRATEGIES = compared_strategies()
each_network = pytest.mark.parametrize('network', NETWORKS)


class Case:
    """A function of the image and one of the weights, with a point and a direction for each."""

    def __init__(self, network, strategy='published', batch=1, size=(9, 14), **options):
        backbone, arguments = NETWORKS[network]
        self.model = build(backbone, **arguments, **STRATEGIES[strategy], **options).double()
        self.image = torch.randn(batch, 3, *size, dtype=torch.float64)
        self.along = torch.randn_like(self.image)
        self.weights = list(self.model.parameters())

    def loss(self, image):
        return sum(output.sin().sum() for output in self.model(image))

    def expected(self):
        """The product of the Hessian with the direction, by ``torch.func``."""
        gradient = torch.func.grad(self.loss)
        return torch.func.jvp(gradient, (self.image,), (self.along,))[1].detach()


def check(found, expected):
    # float64 keeps 16 digits; what cancels within the sums takes some of them
    assert float((found - expected).norm()) <= 1e-9 * float(expected.norm())


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('strategy', [name for name in STRATEGIES if name != ATTENTION])
@each_network
def test_products_with_the_hessian(network, strategy, mode):
    case = Case(network, strategy, batch=1 if mode == 'plain' else 3, **MODES[mode])
    check(functional.hvp(case.loss, case.image, case.along)[1], case.expected())


@pytest.fixture(params=mlp_forms.FORMS)
def form(request, monkeypatch):
    """Each way in which the MLP runs on a CPU, at most sixteen tokens at a time."""
    mlp_forms.force(monkeypatch, request.param, piece=16 * 32)


@pytest.mark.usefixtures('form')
@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('batch', [1, 3])
@each_network
def test_every_form_of_the_mlp(network, batch, mode):
    case = Case(network, batch=batch, size=(17, 21), **MODES[mode])
    check(functional.hvp(case.loss, case.image, case.along)[1], case.expected())
    image = case.image.clone().requires_grad_()
    (slope,) = torch.autograd.grad(case.loss(image), image, create_graph=True)
    # a constant upstream gradient: here `once_differentiable` saw nothing to object to
    check(torch.autograd.grad((slope * case.along).sum(), image)[0], case.expected())


@pytest.mark.filterwarnings('ignore:Using backward')  # of a cycle, which is broken below
@pytest.mark.parametrize('mode', MODES)
@each_network
def test_gradients_of_a_penalty_on_gradients(network, mode):
    """Of the weights, asked for by ``backward(create_graph=True)`` and by ``autograd.grad``."""
    case = Case(network, batch=2, **MODES[mode])
    gradients = torch.autograd.grad(case.loss(case.image), case.weights, create_graph=True)
    penalty = sum(gradient.square().sum() for gradient in gradients)
    found = torch.autograd.grad(penalty, case.weights)

    case.loss(case.image).backward(create_graph=True)
    again = sum(weight.grad.square().sum() for weight in case.weights)
    for weight in case.weights:
        weight.grad = None
    again.backward()
    for weight, gradient in zip(case.weights, found):
        check(weight.grad, gradient)

    def loss(weights):
        outputs = torch.func.functional_call(case.model, weights, (case.image,))
        return sum(output.sin().sum() for output in outputs)

    def norm(weights):
        return sum(gradient.square().sum() for gradient in torch.func.grad(loss)(weights).values())

    weights = {name: weight.detach() for name, weight in case.model.named_parameters()}
    for gradient, expected in zip(found, torch.func.grad(norm)(weights).values()):
        check(gradient, expected)


@each_network
def test_the_whole_hessian_is_that_of_finite_differences(network):
    case = Case(network, size=(5, 6))

    def loss(patch):
        image = case.image.clone()
        image[..., :2, :2] = patch
        return case.loss(image)

    patch = case.image[..., :2, :2].clone()
    hessian = functional.hessian(loss, patch).reshape(12, 12)
    assert float((hessian - hessian.T).norm()) <= 1e-9 * float(hessian.norm())
    step, columns = 1e-4, []
    for index in range(12):
        shift = torch.zeros(12, dtype=torch.float64)
        shift[index] = step
        slopes = [
            functional.jacobian(loss, patch + sign * shift.view_as(patch)).flatten()
            for sign in (1, -1)
        ]
        columns.append((slopes[0] - slopes[1]) / (2 * step))
    # central differences err by the square of the step times the third derivatives
    difference = (hessian - torch.stack(columns, dim=1)).norm()
    assert float(difference) <= 1e-5 * float(hessian.norm())


@pytest.mark.parametrize('strategy', STRATEGIES)
@each_network
def test_forward_mode_agrees(network, strategy):
    case = Case(network, strategy, batch=2)
    image = case.image.clone().requires_grad_()
    (slope,) = torch.autograd.grad(case.loss(image), image)
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(
            case.loss(forward_ad.make_dual(case.image, case.along))
        ).tangent
    _, transformed = torch.func.jvp(case.loss, (case.image,), (case.along,))
    for found in (tangent.detach(), transformed.detach()):
        check(found, (slope * case.along).sum())


@pytest.mark.parametrize('mode', MODES)
@each_network
def test_attention_says_that_it_cannot(network, mode):
    """PyTorch's own operation has no second derivatives on a CPU."""
    case = Case(network, ATTENTION, **MODES[mode])
    image = case.image.clone().requires_grad_()
    with pytest.raises(RuntimeError, match='not implemented'):
        (slope,) = torch.autograd.grad(case.loss(image), image, create_graph=True)
        torch.autograd.grad((slope * case.along).sum(), image)
