from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from tests.helpers import needs
from weightformer_mm import ops
from weightformer_mm.ops.predicted_weight import reference

FLOAT16_MAX = torch.finfo(torch.float16).max
MAPS = [(1, 1, 1), (3, 1, 7), (1, 6, 1), (2, 5, 4), (3, 8, 8)]  # B, H, W


def bilateral_arguments(batch, height, width, cin=8, cout=12, dtype=torch.float64):
    torch.manual_seed(0)
    left, right = cin // 4, cout // 4
    shapes = [
        (batch, height, width, cin),
        (left + right, cin),
        (left + right,),
        (left, cin),
        (right, cout),
    ]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def direct_bilateral(x, reduce_weight, reduce_bias, expand_in, expand_out):
    """The formula as written, token by token, without re-association."""
    batch, height, width, cin = x.shape
    rows = range(0, height - height % 2, 2) if height > 1 else [0]
    columns = range(0, width - width % 2, 2) if width > 1 else [0]
    update = x.new_zeros(batch, cin, expand_out.shape[1])
    for row in rows:
        for column in columns:
            pooled = x[:, row : row + 2, column : column + 2].mean(dim=(1, 2))  # (B, Cin)
            hidden = F.silu(pooled @ reduce_weight.T + reduce_bias)
            left = hidden[:, : expand_in.shape[0]] @ expand_in  # (B, Cin)
            right = hidden[:, expand_in.shape[0] :] @ expand_out  # (B, Cout)
            update = update + left[:, :, None] * right[:, None, :]
    return update * cin**-0.5 / (height * width)


@pytest.mark.parametrize('shape', MAPS)
def test_bilateral_update_is_the_formula(shape):
    arguments = bilateral_arguments(*shape)
    torch.testing.assert_close(
        ops.bilateral_update(*arguments), direct_bilateral(*arguments), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize('shape', MAPS)
def test_bilateral_update_gradient(shape):
    assert torch.autograd.gradcheck(
        ops.bilateral_update, bilateral_arguments(*shape, cin=4, cout=4)
    )


@pytest.mark.parametrize('shape', MAPS)
def test_pool_tokens_gradient(shape):
    x = torch.randn(*shape, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ops.pool_tokens, x)


@pytest.mark.parametrize('dim', [1, (2, 3)])
def test_with_bounded_update_gradient(dim):
    torch.manual_seed(0)
    update, weight = torch.randn(3, 4, 2, 3).double(), torch.randn(4, 2, 3).double()
    arguments = (update.requires_grad_(), weight.requires_grad_(), dim)
    assert torch.autograd.gradcheck(ops.with_bounded_update, arguments)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_the_bounded_weight_is_rounded_once(dtype):
    torch.manual_seed(0)
    update, weight = torch.randn(2, 6, 5), torch.randn(6, 5)
    expected = ops.with_bounded_update(update, weight, dim=1).to(dtype)
    assert torch.equal(ops.with_bounded_update(update, weight, 1, dtype=dtype), expected)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_prediction_from_half_inputs_is_computed_in_float32(dtype):
    arguments = [tensor.detach().to(dtype) for tensor in bilateral_arguments(2, 9, 7)]
    expected = ops.bilateral_update(*(tensor.float() for tensor in arguments))
    assert expected.dtype == torch.float32
    assert torch.equal(ops.bilateral_update(*arguments), expected)


@pytest.mark.parametrize('dtype', [needs.float16, torch.bfloat16])
def test_prediction_ignores_autocast(dtype):
    arguments = bilateral_arguments(2, 9, 7, dtype=torch.float32)
    expected = ops.bilateral_update(*arguments)
    with torch.autocast('cpu', dtype=dtype):
        assert torch.equal(ops.bilateral_update(*arguments), expected)


class LargestIntermediate(TorchDispatchMode):
    """Records the largest magnitude that any operation returns."""

    largest = 0.0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.is_floating_point() and result.numel():
            self.largest = max(self.largest, result.abs().max().item())
        return result


def test_no_intermediate_leaves_the_float16_range_at_4096_pixels():
    side = 4096 // 4  # tokens along a side at stride 4
    x = torch.full((1, side, side, 4), 10.0)
    ones = [torch.ones(2, 4), torch.zeros(2), torch.ones(1, 4), torch.ones(1, 4)]
    with torch.no_grad(), LargestIntermediate() as record:
        update = ops.bilateral_update(x, *ones)
    # SiLU(40) = 40 on both sides, a quarter of the tokens after pooling, and Cin^-1/2 = 1/2. The sum of
    # 262,144 equal float32 terms is good to their number times the rounding, 262144 * 2^-24 = 1.6 %.
    torch.testing.assert_close(update, torch.full((1, 4, 4), 40 * 40 / 4 / 2), rtol=0.016, atol=0)
    assert record.largest < FLOAT16_MAX


@pytest.mark.parametrize('size', [0.0, 1e-3, 1.0, 1e6])
def test_the_update_stays_shorter_than_one(size):
    torch.manual_seed(0)
    weight = torch.randn(6, 5, dtype=torch.float64)
    update = size * torch.randn(3, 6, 5, dtype=torch.float64)
    added = ops.with_bounded_update(update, weight, dim=1) - weight
    length = update.norm(dim=1)
    torch.testing.assert_close(added.norm(dim=1), length / (length + 1), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize('shape', MAPS)
def test_predicted_linear_uses_each_images_weight(shape):
    torch.manual_seed(0)
    x = torch.randn(*shape, 8, dtype=torch.float64)
    weight = torch.randn(shape[0], 8, 6, dtype=torch.float64)
    bias = torch.randn(6, dtype=torch.float64)
    expected = torch.stack([F.linear(image, w.T, bias) for image, w in zip(x, weight)])
    torch.testing.assert_close(
        ops.predicted_linear(x, weight, bias), expected, rtol=1e-12, atol=1e-13
    )


def zeros(*shape):
    return torch.zeros(shape)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: ops.pool_tokens(zeros(2, 3, 4)), r'\(B, H, W, C\)'),
        (
            lambda: ops.token_correlation(zeros(2, 5, 3), zeros(2, 4, 3), 5),
            'same images and tokens',
        ),
        (lambda: ops.predicted_linear(zeros(2, 3, 3, 8), zeros(2, 7, 4), zeros(4)), '7 channels'),
        (
            lambda: ops.predicted_linear(zeros(2, 3, 3, 8), zeros(1, 8, 4), zeros(4)),
            'one weight per image',
        ),
        (lambda: ops.with_bounded_update(zeros(2, 3, 4), zeros(3, 5), 1), r'\(B, 3, 5\)'),
        (
            lambda: ops.bilateral_update(
                zeros(1, 2, 2, 8), zeros(4, 8), zeros(4), zeros(2, 8), zeros(3, 12)
            ),
            'reduce_weight',
        ),
    ],
)
def test_wrong_shapes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_update_of_length_zero_has_a_gradient():
    update = torch.zeros(2, 3, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 4, dtype=torch.float64)
    grad = torch.randn(2, 3, 4, dtype=torch.float64)
    ops.with_bounded_update(update, weight, dim=1).backward(grad)
    torch.testing.assert_close(update.grad, grad)


def test_the_reference_of_the_bilateral_update_defines_it():
    torch.manual_seed(0)
    shapes = [(2, 5, 7, 8), (10, 8), (10,), (2, 8), (8, 32)]
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    torch.testing.assert_close(
        ops.bilateral_update(*inputs), reference.bilateral_update(*inputs), rtol=1e-12, atol=1e-13
    )
    assert torch.autograd.gradcheck(reference.bilateral_update, inputs)
