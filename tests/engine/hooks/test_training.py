from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from weightformer_mm.engine.hooks.training import (
    InitialWeightsHook,
    PlainCheckpointHook,
    StopOnNonFiniteLossHook,
    from_plain,
    to_plain,
)
from weightformer_mm.errors import RunFailed


def test_configs_find_the_hooks():
    for kind in (PlainCheckpointHook, StopOnNonFiniteLossHook):
        assert HOOKS.get(kind.__name__) is kind


@pytest.mark.parametrize('value', [float('nan'), float('inf'), torch.tensor(float('nan'))])
def test_a_loss_that_is_no_number_stops_the_run(value):
    hook, runner = StopOnNonFiniteLossHook(), SimpleNamespace(iter=4)
    hook.after_train_iter(runner, 0, outputs={'loss': torch.tensor(1.0, requires_grad=True)})
    hook.after_train_iter(runner, 0, outputs={'acc': value})
    with pytest.raises(RunFailed, match='loss_cls is (nan|inf) at iteration 5'):
        hook.after_train_iter(runner, 0, outputs={'loss_cls': value})


def test_history_survives_the_plain_form():
    history = HistoryBuffer([0.1, 0.2, 0.3], [1, 2, 3], max_length=5)
    back = from_plain(to_plain({'log_scalars': {'loss': history}}))['log_scalars']['loss']
    assert all(np.array_equal(a, b) for a, b in zip(back.data, history.data))
    back.update(1.0)
    assert back.max_length == 5 and back.current() == 1.0


def test_checkpoints_become_plain(tmp_path):
    weights = torch.nn.Linear(2, 2).state_dict()
    checkpoint = {
        'state_dict': weights,
        'meta': {'seed': np.int64(3), 'palette': np.ones((2, 3)), 'names': ('a', 'b')},
        'message_hub': {'log_scalars': {'loss': HistoryBuffer([1.0], [1])}},
        'param_schedulers': [{'last_step': 3, 'anneal_func': lambda value: value}],
    }
    hook = PlainCheckpointHook()
    hook.before_save_checkpoint(None, checkpoint)
    torch.save(checkpoint, tmp_path / 'file.pth')
    loaded = torch.load(tmp_path / 'file.pth', weights_only=True)
    assert loaded['meta'] == {'seed': 3, 'palette': [[1.0] * 3] * 2, 'names': ('a', 'b')}
    assert loaded['param_schedulers'] == [{'last_step': 3}]
    assert checkpoint['state_dict'] is weights

    hook.after_load_checkpoint(None, loaded)
    assert loaded['message_hub']['log_scalars']['loss'].current() == 1.0


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
