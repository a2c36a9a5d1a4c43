from __future__ import annotations

import torch
from mmengine.hooks import EMAHook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from weightformer_mm.engine.hooks.initial_weights import InitialWeightsHook


class Detector(BaseModel):
    def __init__(self):
        super().__init__()
        self.backbone, self.neck = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return {'loss': self.neck(self.backbone(inputs)).sum()}


def test_the_runner_and_its_average_start_with_them(tmp_path):
    weights = {
        f'backbone.{n}': torch.randn_like(v) for n, v in nn.Linear(4, 4).state_dict().items()
    }
    torch.save({'model': weights}, tmp_path / 'weights.pth')
    average = EMAHook(strict_load=True)
    model = Detector()
    runner = Runner(
        model,
        str(tmp_path / 'work'),
        load_from=str(tmp_path / 'weights.pth'),
        custom_hooks=[average],
        experiment_name='initial',
    )
    average.before_run(runner)
    runner.register_hook(InitialWeightsHook(weights))
    neck = model.neck.weight.detach().clone()
    runner.load_or_resume()
    for module in (model, average.ema_model.module):
        own = module.state_dict()
        assert all(torch.equal(own[name], weights[name]) for name in weights)
        assert torch.equal(module.neck.weight, neck)
