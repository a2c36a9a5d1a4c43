"""Agreement with numbers computed by the published code in float64."""

from __future__ import annotations

import pytest

from tests.helpers import golden
from weightformer_mm.layers import DynamicDepthwiseConv2d, DynamicLinear

LINEAR_NAMES = {
    'w': 'weight',
    'b': 'bias',
    'wfm.weight': 'predictor.reduce.weight',
    'wfm.bias': 'predictor.reduce.bias',
    'w1': 'predictor.expand_in',
    'w2': 'predictor.expand_out',
}
CONV_NAMES = {
    'w': 'weight',
    'b': 'bias',
    'wfm.0.weight': 'predictor.0.weight',
    'wfm.0.bias': 'predictor.0.bias',
    'wfm.2.weight': 'predictor.2.weight',
}


def check_layer(layer, tensors, names, x, grad_output, to_golden_layout):
    """Compare output and every gradient of ``layer`` with the golden ones."""
    layer.load_state_dict(
        {names[name]: value for name, value in golden.part(tensors, 'param').items()}
    )
    x.requires_grad_()
    output = layer(x)
    output.backward(grad_output)
    assert golden.relative_error(to_golden_layout(output), tensors['output']) < golden.TOLERANCE
    assert golden.relative_error(to_golden_layout(x.grad), tensors['grad_input']) < golden.TOLERANCE
    gradients = golden.part(tensors, 'grad')
    assert {names[name] for name in gradients} == {name for name, _ in layer.named_parameters()}
    for name, expected in gradients.items():
        actual = layer.get_parameter(names[name]).grad
        assert golden.relative_error(actual, expected) < golden.TOLERANCE, name


@pytest.mark.parametrize('side', [8, 7])
def test_dynamic_linear(side):
    tensors = golden.load(f'dynamic_linear_{side}x{side}')
    check_layer(
        DynamicLinear(16, 64).double(),
        tensors,
        LINEAR_NAMES,
        x=tensors['input'].unflatten(1, (side, side)),
        grad_output=tensors['grad_output'].unflatten(1, (side, side)),
        to_golden_layout=lambda value: value.flatten(1, 2),  # (B, H, W, C) -> (B, N, C)
    )


@pytest.mark.parametrize('size', ['8x8', '10x7'])
def test_dynamic_depthwise_conv(size):
    tensors = golden.load(f'dynamic_dwconv_{size}')
    check_layer(
        DynamicDepthwiseConv2d(16).double(),
        tensors,
        CONV_NAMES,
        x=tensors['input'].permute(0, 2, 3, 1).contiguous(),
        grad_output=tensors['grad_output'].permute(0, 2, 3, 1),
        to_golden_layout=lambda value: value.permute(0, 3, 1, 2),
    )
