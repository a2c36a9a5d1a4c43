"""How the cost of each strategy grows with the image, and that nothing leaves its range."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.helpers import needs
from weightformer_mm.layers import (
    KERNEL_PREDICTORS,
    WEIGHT_PREDICTORS,
    AttentionBlock,
    DynamicBlock,
)

CHANNELS = 32
STRATEGIES = [
    *(dict(dynamic_linear=name, dynamic_conv='static') for name in WEIGHT_PREDICTORS.names()),
    *(dict(dynamic_linear='static', dynamic_conv=name) for name in KERNEL_PREDICTORS.names()[1:]),
]
IDS = ['-'.join(strategy.values()) for strategy in STRATEGIES]


def unfused_attention():
    """A context in which attention is computed product by product."""
    if find_spec('torch.nn.attention') is None:  # torch < 2.3
        return torch.backends.cuda.sdp_kernel(enable_flash=False, enable_mem_efficient=False)
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.MATH)


def multiply_adds(block: torch.nn.Module, side: int) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        block(torch.randn(1, side, side, CHANNELS))
    return counter.get_total_flops() / 2


def kept_for_backward(block: torch.nn.Module, side: int) -> int:
    """Bytes of activations that autograd holds on to, each memory counted once, parameters not at all."""
    own = {parameter.untyped_storage().data_ptr() for parameter in block.parameters()}
    sizes: dict[int, int] = {}
    held = []  # no memory is given back and taken again under the same address

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = block(torch.randn(1, side, side, CHANNELS, requires_grad=True))
    assert output.requires_grad
    return sum(sizes.values())


@pytest.mark.parametrize('strategy', STRATEGIES, ids=IDS)
def test_cost_and_memory_are_linear_in_the_pixels(strategy):
    block = DynamicBlock(CHANNELS, **strategy)
    for measure, bound in ((multiply_adds, 4.05), (kept_for_backward, 4.1)):
        ratio = measure(block, 64) / measure(block, 32)
        assert 1 < ratio <= bound, measure.__name__


def test_cost_and_memory_of_attention_are_not():
    block = AttentionBlock(CHANNELS)
    with unfused_attention():  # the fused kernels keep no N x N matrix; they compute it as well
        assert multiply_adds(block, 64) / multiply_adds(block, 32) > 8
        assert kept_for_backward(block, 64) / kept_for_backward(block, 32) > 8


@pytest.mark.parametrize('dtype', [needs.float16])
@pytest.mark.parametrize('strategy', STRATEGIES, ids=IDS)
def test_one_block_at_2048_pixels_is_finite_in_float16(strategy, dtype):
    """Bfloat16 has the range of float32."""
    torch.manual_seed(0)
    block = DynamicBlock(8, **strategy)
    x = torch.randn(1, 2048 // 4, 2048 // 4, 8, requires_grad=True)
    with torch.autocast('cpu', dtype=dtype):
        output = block(x)
    assert torch.isfinite(output).all()
    output.backward(torch.randn_like(output) / x[0, ..., 0].numel())
    for tensor in (x, *block.parameters()):
        assert torch.isfinite(tensor.grad).all()


@pytest.mark.parametrize('dtype', [needs.float16, torch.bfloat16])
def test_attention_is_finite_in_half_precision(dtype):
    """At stride 32 of 2048 pixels: at stride 4 it would take 7e10 products per channel."""
    block = AttentionBlock(8)
    x = torch.randn(1, 64, 64, 8, requires_grad=True)
    with torch.autocast('cpu', dtype=dtype):
        output = block(x)
    output.backward(torch.randn_like(output) / 64**2)
    assert torch.isfinite(output).all() and torch.isfinite(x.grad).all()


def linear_formulas(tokens: int, cin: int, cout: int, r: int = 4) -> dict[str, int]:
    """Multiply-adds of predicting ``dW`` at an even size, as docs/strategies.md has them."""
    pooled = tokens // 4
    bilateral = pooled * (cin * (cin + cout) // r + cin * cout // r**2)
    expansion = cin * cout * cout // r**2 + cin * cin * cout // r
    return {
        'static': 0,
        'gap': 8 * cin * (cin + 2 * cout),
        'linear': pooled * cin**2 + cin**3 + cin**2 * cout,
        'nonlinear': pooled * cin * (cin + 2 * cout),
        'bilateral': bilateral + expansion,
        'deep': bilateral + pooled * (cin**2 + cout**2) // r**2 + expansion,
    }


def conv_formulas(tokens: int, channels: int) -> dict[str, int]:
    return {
        'static': 0,
        'gap': 10 * channels**2,
        'adaptive': 18 * channels**2,
        'amp_dir': 20 * channels**2,
        'conv': 18 * channels**2 + 9 * tokens // 4 * channels,
    }


@pytest.mark.parametrize('side', [16, 64])
def test_the_formulas_of_the_documentation(side):
    tokens = side**2
    static = multiply_adds(DynamicBlock(CHANNELS, 0, 0, 'static', 'static'), side)
    assert static == tokens * (9 * CHANNELS + 8 * CHANNELS**2)
    for name, cost in linear_formulas(tokens, CHANNELS, 4 * CHANNELS).items():
        assert multiply_adds(DynamicBlock(CHANNELS, 0, 0, name, 'static'), side) == static + cost
    for name, cost in conv_formulas(tokens, CHANNELS).items():
        assert multiply_adds(DynamicBlock(CHANNELS, 0, 0, 'static', name), side) == static + cost
    with unfused_attention():
        attention = multiply_adds(AttentionBlock(CHANNELS), side)
    assert attention == tokens * 12 * CHANNELS**2 + 2 * tokens**2 * CHANNELS
