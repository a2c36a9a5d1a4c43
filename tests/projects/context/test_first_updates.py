"""Sizes that docs/context.md states of the predicted weights before training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from weightformer_mm import ops
from weightformer_mm.datasets import ContextRules, render_sample
from weightformer_mm.layers import DynamicLinear

CONFIG = Path(__file__).parents[3] / 'configs/context/fcn_pyramid-weightformer-micro_context.py'


@pytest.fixture(scope='module')
def images():
    samples = [render_sample(0, 'val', index, 128, context=ContextRules()) for index in range(8)]
    stack = torch.stack([torch.from_numpy(sample.image) for sample in samples])
    return stack.permute(0, 3, 1, 2).sub(115).div(58)


def relative_updates(strategy, images):
    """Of each dynamic block, the mean norm of the columns of what is predicted, over that of the weight."""
    torch.manual_seed(0)
    cfg = Config.fromfile(CONFIG).model.backbone
    cfg.update(dynamic_linear=strategy, dynamic_conv='static')
    model = MODELS.build(cfg)
    model.init_weights()
    sizes = []

    def measure(layer, args, output):
        weight = ops.with_bounded_update(ops.predict(layer.predictor, args[0]), layer.weight, dim=1)
        update = (weight - layer.weight).norm(dim=1).mean()
        sizes.append((update / layer.weight.norm(dim=0).mean()).item())

    for module in model.modules():
        if isinstance(module, DynamicLinear):
            module.register_forward_hook(measure)
    with torch.no_grad():
        model(images)
    return sizes


@pytest.mark.parametrize(
    ('strategy', 'least', 'most'),
    [
        ('gap', 0.1, 0.4),
        ('linear', 0.05, 0.2),
        ('nonlinear', 0.02, 0.06),
        ('bilateral', 1e-4, 1e-3),
        ('deep', 5e-5, 5e-4),
    ],
)
def test_sizes_of_the_first_updates(strategy, least, most, images):
    sizes = relative_updates(strategy, images)
    assert len(sizes) == 2 and all(least < size < most for size in sizes)
