"""The kernels of a weight predicted from all tokens, judged by the error that PyTorch makes."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor, nn

from tests.helpers import accuracy
from tests.helpers.pairs import DTYPES, pairs
from weightformer_mm import ops
from weightformer_mm.analysis.complexity import count_operations
from weightformer_mm.layers import DynamicLinear
from weightformer_mm.ops._shared import dispatch
from weightformer_mm.ops.predicted_weight import triton

SHAPES = [  # B, H, W, Cin, Cout
    (1, 1, 1, 4, 16),
    (3, 1, 7, 20, 80),
    (2, 9, 1, 4, 16),
    (5, 2, 3, 20, 24),
    (2, 5, 4, 112, 448),
    (1, 33, 34, 96, 384),
    (1, 3, 3, 384, 384),
]


def draw(*shape: int, dtype=torch.float32, device, scale: float = 1.0) -> Tensor:
    return (scale * torch.randn(shape)).to(device, dtype)


def bilateral_arguments(shape, dtype, device) -> list[Tensor]:
    torch.manual_seed(0)
    batch, height, width, cin, cout = shape
    left, right = cin // 4, cout // 4
    return [
        draw(batch, height, width, cin, dtype=dtype, device=device),
        draw(left + right, cin, device=device, scale=cin**-0.5),
        draw(left + right, device=device),
        draw(left, cin, device=device),
        draw(right, cout, device=device),
    ]


def bound_arguments(shape, dtype, device) -> list[Tensor]:
    torch.manual_seed(0)
    batch, *_, cin, cout = shape
    return [draw(batch, cin, cout, device=device), draw(cin, cout, dtype=dtype, device=device)]


# of sums whose terms may cancel to a quarter
check = functools.partial(accuracy.check, cancelled=4)


@pytest.mark.parametrize(('shape', 'dtype'), pairs(SHAPES), ids=str)
def test_bilateral_update(shape, dtype, device):
    check(ops.bilateral_update, bilateral_arguments(shape, dtype, device))


@pytest.mark.parametrize(('shape', 'dtype'), pairs(SHAPES), ids=str)
def test_pool_tokens(shape, dtype, device):
    torch.manual_seed(0)
    check(ops.pool_tokens, [draw(*shape[:4], dtype=dtype, device=device)])


@pytest.mark.parametrize(('shape', 'dtype'), pairs(SHAPES), ids=str)
def test_with_bounded_update(shape, dtype, device):
    check(functools.partial(ops.with_bounded_update, dim=1), bound_arguments(shape, dtype, device))


@pytest.mark.parametrize('dtype', DTYPES[1:], ids=str)
def test_the_bounded_weight_is_rounded_once(dtype, device):
    arguments = bound_arguments(SHAPES[1], torch.float32, device)
    bounded = functools.partial(ops.with_bounded_update, dim=1, backend='triton')
    full, *gradients = accuracy.run(bounded, arguments)
    rounded, *others = accuracy.run(functools.partial(bounded, dtype=dtype), arguments)
    assert torch.equal(rounded, full.to(dtype))
    assert all(map(torch.equal, gradients, others))  # upstream gradients are exact in each type


@pytest.mark.parametrize('dim', [2, (1, 2)], ids=str)
def test_a_norm_over_other_axes_is_left_to_pytorch(dim, device):
    update, weight = draw(3, 5, 4, device=device), draw(5, 4, device=device)
    with pytest.raises(ValueError, match='axis 1'):
        ops.with_bounded_update(update, weight, dim, backend='triton')
    assert ops.with_bounded_update(update, weight, dim).shape == update.shape


def test_the_sum_over_tokens_is_split(device, monkeypatch):
    """As the error of a split sum is judged above, only that it was split is seen here."""
    z = draw(2, 1100, 20, device=device)
    launches = []
    launch = triton.launch
    monkeypatch.setattr(triton, 'launch', lambda *a, **k: launches.append(a[1]) or launch(*a, **k))
    split = triton.silu_correlation(z, 4, 4400)
    assert launches == [(1, 5, 2)]
    left, right = torch.nn.functional.silu(z.double()).split([4, 16], dim=-1)
    torch.testing.assert_close(split.double(), left.mT @ right / 4400, rtol=1e-5, atol=1e-7)


def test_a_map_need_not_be_contiguous(device):
    torch.manual_seed(0)
    x = draw(2, 8, 6, 5, device=device)
    check(lambda x, backend: ops.pool_tokens(x.permute(0, 3, 2, 1), backend=backend), [x])


def test_every_run_gives_the_same_bits(device):
    arguments = bilateral_arguments((3, 37, 34, 20, 80), torch.bfloat16, device)
    update = functools.partial(ops.bilateral_update, backend='triton')
    first, second = (accuracy.run(update, arguments) for _ in range(2))
    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_large_values_stay_finite(dtype, device):
    arguments = bilateral_arguments((2, 4, 6, 20, 80), dtype, device)
    x = arguments[0].float()
    arguments[0] = (6e4 / x.abs().max() * x).to(dtype)  # near the largest float16
    results = accuracy.run(functools.partial(ops.bilateral_update, backend='triton'), arguments)
    assert all(result.isfinite().all() for result in results)


@pytest.mark.parametrize('size', [0.0, 1e-30, 1e15])
def test_updates_of_any_length_are_bounded(size, device):
    torch.manual_seed(0)
    arguments = [size * torch.randn(2, 20, 24, device=device), torch.zeros(20, 24, device=device)]
    results, expected = (
        accuracy.run(functools.partial(ops.with_bounded_update, dim=1, backend=name), arguments)
        for name in ('triton', 'torch')
    )
    assert results[0].norm(dim=1).max() <= 1 + 1e-6
    torch.testing.assert_close(results, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_prediction_ignores_autocast(dtype, device):
    arguments = bilateral_arguments((2, 9, 7, 20, 80), torch.float32, device)
    expected = ops.bilateral_update(*arguments, backend='triton')
    with torch.autocast(device.type, dtype=dtype):
        assert torch.equal(ops.bilateral_update(*arguments, backend='triton'), expected)


def test_no_image(device):
    x = torch.zeros(0, 4, 6, 8, device=device)
    assert ops.pool_tokens(x, backend='triton').shape == (0, 6, 8)
    assert triton.silu_correlation(x[:, :, 0], 4, 1).shape == (0, 4, 4)


def operator_calls(device) -> dict[str, tuple]:
    """Arguments of each operator; those that are differentiable require a gradient."""
    torch.manual_seed(0)
    here = functools.partial(draw, device=device)
    x, z = here(2, 5, 6, 4, dtype=torch.float16), here(2, 7, 20)
    update, weight = here(2, 4, 16), here(4, 16)
    for leaf in (x, z, update, weight):
        leaf.requires_grad_()
    return {
        'pool_tokens': (x, torch.float32),
        'silu_correlation': (z, 4, 28),
        'silu_correlation_backward': (here(2, 4, 16), z.detach(), 4, 28, 1.0),
        'bounded_update': (update, weight, torch.bfloat16),
        'bounded_update_backward': (here(2, 4, 16, dtype=torch.bfloat16), update.detach()),
        'bilateral_expansion_grad': (
            here(2, 4, 16, dtype=torch.bfloat16),
            *(here(2, 4, 16), here(2, 3, 5), here(3, 4), here(5, 16)),
        ),
        'pooled_linear_grad': (here(2, 6, 8), here(8, 4), here(2, 5, 6, 4), None),
    }


OPERATORS = list(operator_calls('cpu'))


@pytest.mark.parametrize('name', OPERATORS)
def test_operators_keep_the_rules_of_pytorch(name, device):
    torch.library.opcheck(
        getattr(torch.ops.weightformer_mm, name).default, operator_calls(device)[name]
    )


class Layer(nn.Module):
    """A weight predicted with the kernels and applied."""

    def __init__(self):
        super().__init__()
        self.linear = DynamicLinear(8, 32)

    def forward(self, x: Tensor) -> Tensor:
        predictor = self.linear.predictor
        reduce, expand = predictor.reduce, (predictor.expand_in, predictor.expand_out)
        update = ops.bilateral_update(x, reduce.weight, reduce.bias, *expand, backend='triton')
        weight = ops.with_bounded_update(update, self.linear.weight, 1, x.dtype, 'triton')
        return ops.predicted_linear(x, weight, self.linear.bias)


def gradients(layer: nn.Module) -> list[Tensor]:
    """Those of its parameters, which are then without."""
    found = [parameter.grad for parameter in layer.parameters()]
    layer.zero_grad()
    return found


def test_compiled_as_a_whole_for_all_sizes(device):
    torch.manual_seed(0)
    layer, compilations = Layer().to(device), []

    def count(graph, inputs):
        compilations.append(graph)
        return torch._dynamo.lookup_backend('aot_eager')(graph, inputs)

    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=count)
    for batch, height, width in [(1, 4, 6), (2, 5, 5), (3, 7, 9)]:
        arguments = [torch.randn(batch, height, width, 8, device=device)]
        results = [*accuracy.run(compiled, arguments), *gradients(layer)]
        expected = [*accuracy.run(layer, arguments), *gradients(layer)]
        torch.testing.assert_close(results, expected, rtol=1e-5, atol=1e-6)
    assert len(compilations) <= 2


def test_counts_are_those_of_pytorch(device, monkeypatch):
    totals = []
    for default in ('torch', 'triton'):
        monkeypatch.setattr(dispatch, '_default', default)
        layer = DynamicLinear(20, 80).to(device)
        with count_operations(layer) as counts:
            layer(torch.zeros(2, 5, 7, 20, device=device))
        assert not counts.not_counted
        totals.append(counts.total)
    # what is counted by module is called by module; without that, the operator of the kernel runs
    with count_operations(torch.nn.Identity()) as counts:
        layer(torch.zeros(2, 5, 7, 20, device=device))
    assert totals[0] == totals[1] == counts.total > 0
    # 6 pooled tokens: hidden layers of 5 and 20, and their correlation; then both expansions
    expected = 2 * (6 * (25 * 20 + 5 * 20) + 5 * (20 + 20) * 80)
    assert counts.multiply_adds['', 'weightformer_mm::bilateral_weight'] == expected


def test_what_the_kernels_cannot_do_is_said(device):
    x = torch.zeros(1, 2, 2, 4, dtype=torch.float64, device=device)
    with pytest.raises(ValueError, match='float64'):
        ops.pool_tokens(x, backend='triton')
    with pytest.raises(ValueError, match='auto, torch, triton'):
        ops.with_bounded_update(x, x[0], 1, backend='cuda')
