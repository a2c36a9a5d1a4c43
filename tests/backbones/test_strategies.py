"""Every combination of strategies in both backbones."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from mmengine.analysis import get_model_complexity_info

from tests.backbones.test_contract import all_parameters_have_gradients, check_outputs
from tests.helpers.contract import MICRO, MICRO_IDS, build
from weightformer_mm.backbones import WeightFormer
from weightformer_mm.layers import KERNEL_PREDICTORS, WEIGHT_PREDICTORS

PAIRS = list(product(WEIGHT_PREDICTORS.names(), KERNEL_PREDICTORS.names()))
MIXERS = [dict(dynamic_linear=linear, dynamic_conv=conv) for linear, conv in PAIRS]
MIXERS.append(dict(token_mixer='attention'))
IDS = ['-'.join(mixer.values()) for mixer in MIXERS]


@pytest.mark.parametrize('mixer', MIXERS, ids=IDS)
@pytest.mark.parametrize(('backbone', 'arch'), MICRO, ids=MICRO_IDS)
def test_every_combination_trains(backbone, arch, mixer):
    model = build(backbone, arch, **mixer)
    for size in ((65, 33), (16, 47)):
        outputs = model(torch.randn(3, 3, *size))
        check_outputs(model, outputs, 3, *size)
    torch.autograd.backward(outputs, [torch.randn_like(output) for output in outputs])
    ok, report = all_parameters_have_gradients(model)
    assert ok, report


@pytest.mark.parametrize('every', [1, 2, 3, 5, 100])
@pytest.mark.parametrize('mixer', ['dynamic', 'attention'])
@pytest.mark.parametrize(('backbone', 'arch'), MICRO, ids=MICRO_IDS)
def test_which_blocks_are_dynamic(backbone, arch, mixer, every):
    model = build(backbone, arch, token_mixer=mixer, dynamic_every=every)
    blocks = [module for module in model.modules() if hasattr(module, 'linear2')]
    mixing = [index for index, block in enumerate(blocks) if hasattr(block, 'norm1')]
    assert mixing == list(range(1 % every, len(blocks), every))
    assert all(hasattr(blocks[index], 'attention') == (mixer == 'attention') for index in mixing)


@pytest.mark.parametrize(('backbone', 'arch'), MICRO, ids=MICRO_IDS)
def test_unknown_mixers_are_refused(backbone, arch):
    with pytest.raises(ValueError, match="unknown token_mixer 'magic'; choose one of dynamic, att"):
        backbone(arch=arch, token_mixer='magic')
    with pytest.raises(ValueError, match='dynamic_every of at least 1, got 0'):
        backbone(arch=arch, dynamic_every=0)
    with pytest.raises(ValueError, match='dynamic_every of at least 1, got 2.5'):
        backbone(arch=arch, dynamic_every=2.5)
    with pytest.raises(ValueError, match="unknown dynamic linear strategy 'magic'"):
        backbone(arch=arch, token_mixer='attention', dynamic_linear='magic')


@pytest.mark.parametrize(('backbone', 'arch'), MICRO, ids=MICRO_IDS)
def test_the_libraries_can_count_and_trace_what_is_predicted(backbone, arch):
    model = build(backbone, arch).eval()
    counted = get_model_complexity_info(model, inputs=(torch.randn(1, 3, 64, 64),))
    assert counted['flops'] > 0


def spreads_of_blocks(mixer: dict, side: int) -> list[float]:
    """Standard deviation of what each of 33 blocks puts out, before any training."""
    model = build(WeightFormer, dict(embed_dims=32, depth=33), **mixer)
    spreads = []
    for block in model.blocks:
        block.register_forward_hook(lambda module, args, out: spreads.append(out.std().item()))
    with torch.no_grad():
        model(torch.randn(1, 3, side, side))
    return spreads


@pytest.mark.parametrize('side', [64, 1024])
@pytest.mark.parametrize('mixer', MIXERS[:-1], ids=IDS[:-1])
def test_activations_stay_in_range_at_initialisation(mixer, side):
    spreads = spreads_of_blocks(mixer, side)
    assert len(spreads) == 33
    assert 0.1 < min(spreads) and max(spreads) < 10, spreads


@pytest.mark.parametrize('side', [64, 1024])
def test_the_residual_stream_of_attention_grows_as_the_static_blocks_let_it(side):
    """No norm replaces it. A convolution of PyTorch's initialisation adds a third to its variance."""
    spreads = spreads_of_blocks(dict(token_mixer='attention'), side)
    static_blocks = 22
    assert 0.1 < min(spreads) and max(spreads) < 1.2 * (4 / 3) ** (static_blocks / 2), spreads
