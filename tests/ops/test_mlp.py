from __future__ import annotations

import math
import threading
from dataclasses import replace

import pytest
import torch

from tests.helpers import mlp_forms, needs
from weightformer_mm import ops
from weightformer_mm.ops import mlp
from weightformer_mm.ops.mlp import reference
from weightformer_mm.ops.mlp.cpu import chunked, whole
from weightformer_mm.ops.mlp.cpu.plan import TABLE

CHANNELS, WIDTH = 5, 12
NAMES = ('x', 'norm_weight', 'norm_bias', 'weight1', 'bias1', 'weight2', 'bias2')
MAPS = [(1, 1, 1), (3, 1, 7), (1, 6, 1), (2, 5, 3)]  # B, H, W
SCALES = {
    'none': lambda batch: None,
    'scaled': lambda batch: torch.linspace(2, 0, batch, dtype=torch.float64),
}


@pytest.fixture(params=['recomputed', 'kept', 'whole'])
def small_pieces(request, monkeypatch):
    """Four tokens at a time; the hidden layer is computed again or kept, by one of two functions."""
    mlp_forms.force(monkeypatch, request.param, piece=4 * WIDTH)
    return request.param


def arguments(shape, per_image, dtype=torch.float64):
    torch.manual_seed(0)
    batch = shape[0]
    shapes = [
        (*shape, CHANNELS),
        (CHANNELS,),
        (CHANNELS,),
        (batch if per_image else 1, CHANNELS, WIDTH),
        (WIDTH,),
        (CHANNELS, WIDTH),
        (CHANNELS,),
    ]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def direct(x, norm_weight, norm_bias, weight1, bias1, weight2, bias2, scale):
    """Token by token as the formula stands."""
    mean = x.mean(-1, keepdim=True)
    deviation = ((x - mean) ** 2).mean(-1, keepdim=True).add(1e-6).sqrt()
    normed = (x - mean) / deviation * norm_weight + norm_bias
    hidden = torch.einsum('bhwc,bcd->bhwd', normed, weight1.expand(len(x), -1, -1)) + bias1
    hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
    branch = torch.einsum('bhwd,cd->bhwc', hidden, weight2) + bias2
    return x + branch * (1 if scale is None else scale.view(-1, 1, 1, 1))


def results(function, inputs, scale, upstream):
    output = function(*inputs, scale)
    return [output.detach(), *torch.autograd.grad(output, inputs, upstream.to(output.dtype))]


@pytest.mark.parametrize('scale', SCALES)
@pytest.mark.parametrize('per_image', [False, True])
@pytest.mark.parametrize('shape', MAPS)
def test_values_and_gradients(shape, per_image, scale, small_pieces, monkeypatch):
    made = count_calls(whole.WholeMLP, monkeypatch)
    inputs = arguments(shape, per_image)
    scale = SCALES[scale](shape[0])
    upstream = torch.randn(*shape, CHANNELS, dtype=torch.float64)
    expected = results(direct, inputs, scale, upstream)
    for function in (ops.residual_mlp, reference.residual_mlp):
        for result, truth in zip(results(function, inputs, scale, upstream), expected):
            torch.testing.assert_close(result, truth, rtol=1e-10, atol=1e-11)
    assert len(made) == (small_pieces == 'whole')


def count_calls(function, monkeypatch):
    made, original = [], function.apply
    monkeypatch.setattr(function, 'apply', lambda *args: made.append(args) or original(*args))
    return made


@pytest.mark.usefixtures('small_pieces')
@pytest.mark.parametrize('per_image', [False, True])
def test_gradcheck(per_image):
    inputs = arguments((2, 2, 3), per_image)
    scale = torch.tensor([0.5, 2.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *args: ops.residual_mlp(*args, scale), inputs)


@pytest.mark.parametrize('per_image', [False, True])
@pytest.mark.parametrize('autocast', [False, True])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, needs.float16])
def test_as_exact_as_the_reference_in_the_same_type(dtype, autocast, per_image, small_pieces):
    if autocast and dtype == torch.float32:
        pytest.skip('autocast has no float32')
    if small_pieces == 'whole' and dtype != torch.float32:
        pytest.skip('of half precision, pieces take its place')
    shape = (3, 9, 7)
    inputs = arguments(shape, per_image, dtype=torch.float32)
    if not autocast:
        inputs = [tensor.detach().to(dtype).requires_grad_() for tensor in inputs]
    scale = torch.tensor([0.0, 1.0, 2.0], dtype=inputs[0].dtype)
    upstream = torch.randn(*shape, CHANNELS).bfloat16().half()
    doubles = [tensor.detach().double().requires_grad_() for tensor in inputs]
    exact = results(reference.residual_mlp, doubles, scale.double(), upstream)
    with torch.autocast(
        'cpu', dtype=torch.bfloat16 if dtype == torch.float32 else dtype, enabled=autocast
    ):
        eager = results(reference.residual_mlp, inputs, scale, upstream)
        ours = results(ops.residual_mlp, inputs, scale, upstream)
    for name, result, other, truth in zip(('out', *NAMES), ours, eager, exact):
        assert result.dtype == other.dtype, name
        error, allowed = (float((value.double() - truth).abs().max()) for value in (result, other))
        floor = torch.finfo(dtype).eps * float(truth.abs().max())
        assert error <= 2 * allowed + floor, (name, error, allowed)


@pytest.mark.parametrize(('how', 'kept'), [('recomputed', 0), ('kept', 1), ('whole', 1)])
def test_the_hidden_layer_is_kept_only_where_that_pays(how, kept, monkeypatch):
    inputs = arguments((2, 4, 4), per_image=False)
    mlp_forms.force(monkeypatch, how)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: sizes.append(t.numel()) or t, lambda t: t
    ):
        ops.residual_mlp(*inputs)
    assert sizes.count(2 * 4 * 4 * WIDTH) == kept


def test_memory_made_in_inference_mode_serves_training_and_other_threads(monkeypatch):
    monkeypatch.setattr(chunked, '_held', threading.local())
    inputs = arguments((2, 5, 3), per_image=True)
    with torch.inference_mode():
        expected = ops.residual_mlp(*inputs)

    def train(results):
        results.append(ops.residual_mlp(*inputs))
        results[-1].sum().backward()

    results = []
    threads = [threading.Thread(target=train, args=(results,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    train(results)
    assert len(results) == 4
    assert all(torch.equal(result, expected) for result in results)


def test_the_default_device_does_not_matter(monkeypatch):
    monkeypatch.setattr(chunked, '_held', threading.local())
    inputs = arguments((2, 5, 3), per_image=True)
    with torch.device('meta'):
        output = ops.residual_mlp(*inputs)
    assert output.device.type == 'cpu'
    assert torch.equal(ops.residual_mlp(*inputs), output)


@pytest.mark.parametrize('kept', [False, True])
@pytest.mark.parametrize('scale', SCALES)
@pytest.mark.parametrize('per_image', [False, True])
def test_all_tokens_at_once_as_on_a_gpu(per_image, scale, kept):
    shape = (3, 5, 4)
    inputs = arguments(shape, per_image)
    scale = SCALES[scale](shape[0])
    upstream = torch.randn(*shape, CHANNELS, dtype=torch.float64)
    plan = mlp.Plan(tokens=None, keep_hidden=kept, dtype=torch.float64, eps=1e-6)

    def function(x, *parameters):
        return mlp.ResidualMLP.apply(x, plan, None, *parameters)

    expected = results(direct, inputs, scale, upstream)
    for result, truth in zip(results(function, inputs, scale, upstream), expected):
        torch.testing.assert_close(result, truth, rtol=1e-10, atol=1e-11)


def test_a_frozen_block_keeps_nothing(monkeypatch):
    mlp_forms.force(monkeypatch, 'kept')
    made = count_calls(mlp.ResidualMLP, monkeypatch)
    inputs = arguments((2, 4, 4), per_image=False)
    ops.residual_mlp(*inputs)
    ops.residual_mlp(*(tensor.detach() for tensor in inputs))
    with torch.no_grad():
        ops.residual_mlp(*inputs)
    assert [plan.keep_hidden for _, plan, *_ in made] == [True, False, False]


@pytest.mark.parametrize(
    'case', ['trains', 'infers', 'per_image', 'small_per_image', 'autocast', 'half']
)
@pytest.mark.parametrize('plain_from', [WIDTH, WIDTH + 1])
def test_all_tokens_go_at_once_where_weights_train_in_the_type_they_have(
    case, plain_from, monkeypatch
):
    mlp_forms.force(monkeypatch, 'whole')
    monkeypatch.setitem(TABLE, 'plain', replace(TABLE['plain'], width=plain_from))
    pieces = count_calls(mlp.ResidualMLP, monkeypatch)
    least = 2 * 4 * 4 * WIDTH + (case == 'small_per_image')
    monkeypatch.setitem(TABLE, 'whole', replace(TABLE['whole'], elements=least))
    made = count_calls(whole.WholeMLP, monkeypatch)
    dtype = torch.bfloat16 if case == 'half' else torch.float32
    inputs = arguments((2, 4, 4), per_image='per_image' in case, dtype=dtype)
    expected = reference.residual_mlp(*inputs).float()
    with torch.set_grad_enabled(case != 'infers'):
        with torch.autocast('cpu', torch.bfloat16, enabled=case == 'autocast'):
            output = ops.residual_mlp(*inputs)
    assert len(made) == (case in ('trains', 'per_image'))
    assert len(pieces) == (1 - len(made) if plain_from > WIDTH or case == 'infers' else 0)
    rounding = 0.1 if case in ('half', 'autocast') else 1e-5
    torch.testing.assert_close(output.float(), expected, rtol=rounding, atol=rounding)


def test_a_static_weight_keeps_its_layout_in_its_gradient(monkeypatch):
    mlp_forms.force(monkeypatch, 'whole')
    inputs = arguments((2, 4, 4), per_image=False)
    linear = inputs[3].detach()[0].T.contiguous().requires_grad_()  # (D, C)
    inputs[3] = linear.T.unsqueeze(0)
    upstream = torch.randn(2, 4, 4, CHANNELS, dtype=torch.float64)
    found = results(ops.residual_mlp, inputs, None, upstream)
    for result, truth in zip(found, results(direct, inputs, None, upstream)):
        torch.testing.assert_close(result, truth, rtol=1e-10, atol=1e-11)
    assert found[1 + NAMES.index('weight1')].stride() == inputs[3].stride()
    (gradient,) = torch.autograd.grad(ops.residual_mlp(*inputs).sum(), linear)
    assert gradient.is_contiguous()


@pytest.mark.parametrize('per_image', [False, True])
def test_second_derivatives_of_all_tokens_at_once(per_image, monkeypatch):
    mlp_forms.force(monkeypatch, 'whole')
    inputs = arguments((2, 2, 3), per_image)
    scale = torch.tensor([0.5, 2.0], dtype=torch.float64)
    upstream = torch.randn(2, 2, 3, CHANNELS, dtype=torch.float64)

    def penalty(function):
        (slope,) = torch.autograd.grad(
            function(*inputs, scale), inputs[:1], upstream, create_graph=True
        )
        return torch.autograd.grad(slope.square().sum(), inputs[:-1])

    for result, truth in zip(penalty(ops.residual_mlp), penalty(direct)):
        torch.testing.assert_close(result, truth, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize('batch', [1, 2])
def test_gradients_to_differentiate_where_the_weight_comes_from_the_map(batch, monkeypatch):
    mlp_forms.force(monkeypatch, 'whole')
    x, norm_weight, norm_bias, weight1, *rest = arguments((batch, 2, 3), per_image=True)

    def slopes(function, create_graph):
        normed = torch.nn.functional.layer_norm(x, (CHANNELS,), norm_weight, norm_bias, 1e-6)
        predicted = weight1 * normed.mean((1, 2))[:, :, None]  # (B, C, D)
        output = function(x, norm_weight, norm_bias, predicted, *rest, None, normed)
        wanted = x, norm_weight, norm_bias, weight1, *rest
        return torch.autograd.grad(output.square().sum(), wanted, create_graph=create_graph)

    made = count_calls(whole.WholeMLP, monkeypatch)
    found, expected = (slopes(f, True) for f in (ops.residual_mlp, reference.residual_mlp))
    for result, truth, once in zip(found, expected, slopes(ops.residual_mlp, False)):
        torch.testing.assert_close(result, truth, rtol=1e-10, atol=1e-11)
        torch.testing.assert_close(once, truth, rtol=1e-10, atol=1e-11)
    again = [torch.autograd.grad(slope[0].square().sum(), x)[0] for slope in (found, expected)]
    torch.testing.assert_close(*again, rtol=1e-9, atol=1e-10)
    assert len(made) == 2


@pytest.mark.parametrize('per_image', [False, True])
@pytest.mark.parametrize('trained', NAMES)
def test_what_is_frozen_gets_no_gradient_and_the_rest_the_same(trained, per_image, monkeypatch):
    mlp_forms.force(monkeypatch, 'whole')
    made = count_calls(whole.WholeMLP, monkeypatch)
    inputs = arguments((2, 2, 3), per_image)
    (expected,) = torch.autograd.grad(direct(*inputs, None).sum(), inputs[NAMES.index(trained)])
    for name, tensor in zip(NAMES, inputs):
        tensor.requires_grad_(name == trained)
    ops.residual_mlp(*inputs).sum().backward()
    assert made
    for name, tensor in zip(NAMES, inputs):
        if name != trained:
            assert tensor.grad is None, name
        else:
            torch.testing.assert_close(tensor.grad, expected, rtol=1e-10, atol=1e-11)


def test_transforms_of_functions_see_plain_operations():
    inputs = arguments((2, 3, 3), per_image=False)
    rest = [tensor.detach() for tensor in inputs[1:]]
    gradient = torch.func.grad(lambda x: ops.residual_mlp(x, *rest).square().sum())(
        inputs[0].detach()
    )
    (expected,) = torch.autograd.grad(ops.residual_mlp(*inputs).square().sum(), inputs[:1])
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-11)


def test_wrong_shapes_are_named():
    x, norm_weight, norm_bias, weight1, bias1, weight2, bias2 = arguments((3, 4, 4), True)
    with pytest.raises(ValueError, match='got 2 for 3 images'):
        ops.residual_mlp(x, norm_weight, norm_bias, weight1[:2], bias1, weight2, bias2)
    with pytest.raises(ValueError, match=r'weight2 of shape \(5, 12\), got \(12, 5\)'):
        ops.residual_mlp(x, norm_weight, norm_bias, weight1, bias1, weight2.T, bias2)
    with pytest.raises(ValueError, match='4 channels'):
        ops.residual_mlp(x, norm_weight, norm_bias, weight1[:, :4], bias1, weight2, bias2)
