from __future__ import annotations

import functools

import pytest
import torch
import torch.nn.functional as F

from tests.helpers import needs
from weightformer_mm import ops
from weightformer_mm.ops.depthwise_conv import reference
from weightformer_mm.ops.depthwise_conv.torch import eager_conv

MAPS = [(1, 1, 1), (3, 1, 7), (1, 6, 1), (2, 2, 3), (3, 10, 7)]  # B, H, W


def arguments(batch, height, width, channels=5, size=3):
    torch.manual_seed(0)
    shapes = [(batch, height, width, channels), (batch, channels, 1, size, size), (channels,)]
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize('size', [1, 3, 5])
@pytest.mark.parametrize('shape', MAPS)
def test_depthwise_conv_uses_each_images_kernel(shape, size):
    x, kernel, bias = arguments(*shape, size=size)
    images = [
        F.conv2d(image.permute(2, 0, 1), taps, bias, padding=size // 2, groups=x.shape[-1])
        for image, taps in zip(x, kernel)
    ]
    expected = torch.stack(images).permute(0, 2, 3, 1)
    torch.testing.assert_close(
        ops.depthwise_conv(x, kernel, bias), expected, rtol=1e-12, atol=1e-13
    )


@pytest.mark.parametrize('shared', [False, True])
@pytest.mark.parametrize('residual', [False, True])
@pytest.mark.parametrize('size', [1, 3, 5])
@pytest.mark.parametrize('shape', MAPS)
def test_the_reference_defines_it(shape, size, residual, shared):
    x, kernel, bias = arguments(*shape, channels=2, size=size)
    kernel = kernel[:1] if shared else kernel
    result = ops.depthwise_conv(x, kernel, bias, residual)
    expected = reference.depthwise_conv(x, kernel, bias, residual)
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-13)
    if size == 3:
        assert torch.autograd.gradcheck(
            lambda *args: reference.depthwise_conv(*args, residual), (x, kernel.detach(), bias)
        )


@pytest.mark.parametrize('shared', [False, True])
@pytest.mark.parametrize('residual', [False, True])
@pytest.mark.parametrize(('size', 'dilation'), [(3, 2), (3, 4), (5, 3)])
@pytest.mark.parametrize('shape', MAPS)
def test_a_dilated_convolution_is_one_of_each_interleaved_map(
    shape, size, dilation, residual, shared
):
    x, kernel, bias = arguments(*shape, size=size)
    kernel = kernel[:1] if shared else kernel
    expected = torch.empty_like(x)
    for row in range(min(dilation, shape[1])):
        for column in range(min(dilation, shape[2])):
            every = (slice(None), slice(row, None, dilation), slice(column, None, dilation))
            expected[every] = ops.depthwise_conv(x[every], kernel, bias, residual)
    options = dict(residual=residual, dilation=dilation)
    for function in (ops.depthwise_conv, reference.depthwise_conv):
        result = function(x, kernel, bias, **options)
        torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize('shared', [False, True])
def test_gradients_of_a_dilated_operator(shared):
    x, kernel, bias = arguments(2, 5, 4, channels=2)

    def function(x, kernel, bias):
        return eager_conv(x, kernel[:1] if shared else kernel, bias, 2)

    assert torch.autograd.gradcheck(function, (x, kernel, bias))
    expected = reference.depthwise_conv(x, kernel, bias, dilation=2)
    torch.testing.assert_close(eager_conv(x, kernel, bias, 2), expected, rtol=1e-12, atol=1e-13)


def test_a_residual_in_the_kernel_keeps_the_digits_of_the_map():
    x, kernel, bias = (tensor.detach().float() for tensor in arguments(1, 5, 4))
    kernel, bias = kernel.bfloat16(), bias.bfloat16()
    result = ops.depthwise_conv(x, kernel, bias, residual=True)
    torch.testing.assert_close(
        result, x + ops.depthwise_conv(x, kernel, bias), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize('residual', [False, True])
@pytest.mark.parametrize('shape', MAPS)
def test_one_kernel_for_all_images(shape, residual):
    x, kernel, bias = arguments(*shape)
    expected = ops.depthwise_conv(x, kernel[:1].repeat(shape[0], 1, 1, 1, 1), bias)
    if residual:
        expected = expected + x
    result = ops.depthwise_conv(x, kernel[:1], bias, residual=residual)
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize('shared', [False, True])
@pytest.mark.parametrize('residual', [False, True])
@pytest.mark.parametrize('shape', MAPS)
def test_depthwise_conv_gradient(shape, residual, shared):
    x, kernel, bias = arguments(*shape, channels=3)

    def function(x, kernel, bias):
        return ops.depthwise_conv(x, kernel[:1] if shared else kernel, bias, residual)

    assert torch.autograd.gradcheck(function, (x, kernel, bias))


@pytest.mark.parametrize('residual', [False, True])
def test_depthwise_conv_norm(residual):
    x, kernel, bias = arguments(2, 3, 4)
    weight, shift = torch.randn(2, 5, dtype=torch.float64)
    out, normed = ops.depthwise_conv_norm(x, kernel, bias, weight, shift, 1e-6, residual)
    assert torch.equal(out, ops.depthwise_conv(x, kernel, bias, residual))
    assert torch.equal(normed, F.layer_norm(out, (5,), weight, shift, 1e-6))


def test_depthwise_conv_norm_gradient():
    args = arguments(2, 3, 2, channels=3)
    vectors = [torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    function = functools.partial(ops.depthwise_conv_norm, eps=1e-6)
    assert torch.autograd.gradcheck(function, (*args, *vectors))


@pytest.mark.parametrize('shape', MAPS)
def test_adaptive_update_is_an_mlp_on_window_means(shape):
    torch.manual_seed(0)
    x = torch.randn(*shape, 5, dtype=torch.float64)
    hidden_weight, out_weight = torch.randn(2, 5, 5, 1, 1, dtype=torch.float64)
    hidden_bias = torch.randn(5, dtype=torch.float64)
    update = ops.adaptive_update(x, 3, hidden_weight, hidden_bias, out_weight)
    defined = reference.adaptive_update(x, 3, hidden_weight, hidden_bias, out_weight)
    torch.testing.assert_close(update, defined, rtol=1e-12, atol=1e-13)
    assert update.shape == (shape[0], 5, 3, 3)
    height, width = shape[1:]
    for row in range(3):
        top, bottom = row * height // 3, -(-(row + 1) * height // 3)
        for column in range(3):
            left, right = column * width // 3, -(-(column + 1) * width // 3)
            mean = x[:, top:bottom, left:right].mean(dim=(1, 2))  # (B, C)
            hidden = F.gelu(mean @ hidden_weight[:, :, 0, 0].T + hidden_bias)
            expected = hidden @ out_weight[:, :, 0, 0].T
            torch.testing.assert_close(update[:, :, row, column], expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize('dtype', [needs.float16, torch.bfloat16])
def test_prediction_is_computed_in_float32(dtype):
    torch.manual_seed(0)
    x, bias = torch.randn(2, 9, 7, 5), torch.randn(5)
    weights = torch.randn(2, 5, 5, 1, 1)
    halves = [tensor.to(dtype) for tensor in (x, weights[0], bias, weights[1])]
    expected = ops.adaptive_update(halves[0].float(), 3, *(tensor.float() for tensor in halves[1:]))
    assert torch.equal(ops.adaptive_update(halves[0], 3, *halves[1:]), expected)
    with torch.autocast('cpu', dtype=dtype):
        assert torch.equal(ops.adaptive_update(halves[0], 3, *halves[1:]), expected)


def zeros(*shape):
    return torch.zeros(shape)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (
            lambda: ops.depthwise_conv(zeros(2, 4, 4), zeros(2, 4, 1, 3, 3), zeros(4)),
            r'\(B, H, W, C\)',
        ),
        (
            lambda: ops.depthwise_conv(zeros(2, 4, 4, 5), zeros(3, 5, 1, 3, 3), zeros(5)),
            r'\(2, 5, 1, 3, 3\) or \(1, 5, 1, 3, 3\), got \(3, 5, 1, 3, 3\)',
        ),
        (lambda: ops.depthwise_conv(zeros(2, 4, 4, 5), zeros(2, 5, 1, 1, 3), zeros(5)), '3, 3'),
        (lambda: ops.depthwise_conv(zeros(1, 4, 4, 5), zeros(5, 1, 3, 3), zeros(5)), '1, 5, 1, 3'),
        (lambda: ops.depthwise_conv(zeros(1, 4, 4, 5), zeros(1, 5, 1, 3, 3), zeros(4)), 'bias'),
        (
            lambda: ops.depthwise_conv_norm(
                zeros(1, 4, 4, 5), zeros(1, 5, 1, 3, 3), zeros(5), zeros(5), zeros(4), 1e-6
            ),
            r'norm_bias of shape \(5,\), got \(4,\)',
        ),
        (
            lambda: ops.depthwise_conv(
                zeros(1, 4, 4, 5), zeros(1, 5, 1, 3, 3), zeros(5), backend='triton'
            ),
            r"backend 'triton': .*; use 'auto' or 'torch' instead",
        ),
        (lambda: ops.depthwise_conv(zeros(2, 4, 4, 5), zeros(2, 5, 1, 2, 2), zeros(5)), 'odd'),
        (
            lambda: ops.adaptive_update(
                zeros(2, 4, 4, 5), 3, zeros(6, 6, 1, 1), zeros(6), zeros(6, 6, 1, 1)
            ),
            '6 channels',
        ),
    ],
)
def test_wrong_shapes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
