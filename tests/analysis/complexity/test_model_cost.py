"""The cost of modules by themselves."""

from __future__ import annotations

import copy

import torch
from mmengine.registry import MODELS, init_default_scope

from weightformer_mm.analysis.complexity import measure
from weightformer_mm.backbones import PyramidWeightFormer


def test_model_is_left_as_it_was():
    model = PyramidWeightFormer('micro').train()
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    measure(model, (32, 32))
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model(torch.randn(1, 3, 32, 32))[0].sum().item() != 0


def test_four_times_the_pixels_of_a_large_image():
    model = PyramidWeightFormer('micro')
    small, large = (measure(model, (size, size)).total for size in (2048, 4096))
    assert 3.9 < large.multiply_adds / small.multiply_adds <= 4.05
    assert 3.9 < large.elements / small.elements <= 4.05


def test_any_module():
    init_default_scope('mmengine')
    model = MODELS.build(dict(type='PyramidWeightFormer', arch='micro', in_channels=5))
    assert measure(model, (32, 32), in_channels=5).input_shape == (1, 5, 32, 32)
