"""A run takes over the state that a run like it saved, with any optimizer, and no other."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import Dataset

import weightformer_mm.engine.optimizers.timm_optimizers  # noqa: F401
from weightformer_mm.engine.hooks.training import PlainCheckpointHook
from weightformer_mm.engine.runner.randomness import PositionedDataset, SeedIterationsHook
from weightformer_mm.engine.runner.runner import CheckedFlexibleRunner, CheckedRunner
from weightformer_mm.errors import UserError


class Numbers(Dataset):
    metainfo = {'classes': ('a', 'b')}

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict:
        return {'inputs': torch.full((3, 6, 6), float(index))}


class Toy(BaseModel):
    """Has weights of one to four dimensions, ten of them, and one that no gradient reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(3)))
        self.norm = nn.BatchNorm2d(3)
        self.linear = nn.Linear(3, 2)
        self.unused = nn.Linear(2, 2)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, inputs, mode='tensor'):
        features = self.norm(self.convs(torch.stack(inputs))).mean((2, 3))
        out = self.linear(features) * self.scale
        return {'loss': out.square().mean()}


AVERAGED = [dict(type='EMAHook')]
CASES = {
    'AdamW': dict(type='AdamW', lr=0.001),
    'AMSGrad': dict(type='AdamW', lr=0.001, amsgrad=True),
    'SGD': dict(type='SGD', lr=0.001),
    'momentum': dict(type='SGD', lr=0.001, momentum=0.9),
    'Muon': dict(type='TimmOptimizer', opt='muon', lr=0.001),
    'Adafactor': dict(type='TimmOptimizer', opt='adafactor', lr=0.001),
}


def run(
    folder,
    case='AdamW',
    kind=CheckedRunner,
    hooks=(),
    resume=False,
    epochs=1,
    schedulers=None,
    exact_resume=False,
):
    torch.manual_seed(0)
    runner = kind(
        model=Toy(),
        work_dir=str(folder),
        train_dataloader=dict(
            dataset=Numbers(), sampler=dict(type='DefaultSampler', shuffle=False), batch_size=2
        ),
        optim_wrapper=dict(
            optimizer=dict(CASES[case], weight_decay=0.05),
            paramwise_cfg=dict(norm_decay_mult=0.0),
            clip_grad=dict(max_norm=1.0),
        ),
        param_scheduler=schedulers
        or [
            dict(type='MultiStepLR', milestones=[1]),
            dict(type='OneCycleLR', eta_max=0.1, total_steps=9),
        ],
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        custom_hooks=[PlainCheckpointHook(), *copy.deepcopy(list(hooks))],
        load_from=str(folder / 'epoch_1.pth') if resume else None,
        resume=resume,
        experiment_name=f'{folder.name}_{case}_{epochs}_{resume}',
        cfg=Config(dict(exact_resume=exact_resume)),
    )
    runner.train()
    return runner


@pytest.mark.parametrize('case', CASES)
def test_its_own_state_is_taken_over(case, tmp_path):
    run(tmp_path, case)
    assert run(tmp_path, case, resume=True, epochs=2).iter == 4


def test_by_the_other_runner_too(tmp_path):
    run(tmp_path, kind=CheckedFlexibleRunner)
    assert run(tmp_path, kind=CheckedFlexibleRunner, resume=True, epochs=2).iter == 4


@pytest.mark.parametrize('kind', [CheckedRunner, CheckedFlexibleRunner])
@pytest.mark.parametrize('is_exact', [True, False])
def test_seeding_by_position_is_an_option(is_exact, kind, tmp_path):
    runner = run(tmp_path, kind=kind, exact_resume=is_exact)
    assert isinstance(runner.train_dataloader.dataset, PositionedDataset) is is_exact
    assert any(isinstance(hook, SeedIterationsHook) for hook in runner.hooks) is is_exact


def test_averaged_weights(tmp_path):
    run(tmp_path, hooks=AVERAGED)
    run(tmp_path, hooks=AVERAGED, resume=True, epochs=2)
    change(tmp_path, lambda c: c['ema_state_dict']['module.linear.bias'].fill_(float('inf')))
    with pytest.raises(UserError, match='of another kind: linear.bias not finite'):
        run(tmp_path, hooks=AVERAGED, resume=True, epochs=2)


def change(folder, how) -> None:
    path = folder / 'epoch_1.pth'
    checkpoint = torch.load(path, weights_only=True)
    how(checkpoint)
    torch.save(checkpoint, path)


def test_what_has_no_state_is_said(tmp_path, capsys):
    run(tmp_path)
    run(tmp_path, resume=True, epochs=2)
    said = capsys.readouterr().out
    assert 'no state for 2 of 13 parameters, such as unused.weight' in ' '.join(said.split())


CHANGES = {
    'exp_avg of convs.0.weight is a tensor': lambda c: c['optimizer']['state'][1].update(
        exp_avg=torch.ones(2)
    ),
    'exp_avg of convs.0.bias is a tensor': lambda c: [
        c['optimizer']['state'][number].update(exp_avg=torch.ones(2)) for number in (2, 3)
    ],
    'convs.0.weight has step, exp_avg, which no other parameter has': lambda c: c['optimizer'][
        'state'
    ][1].pop('exp_avg_sq'),
    'this run ends at 2': lambda c: c['meta'].update(epoch=3),
    'in the last iteration of epoch 2, before its end': lambda c: c['meta'].update(iter=4),
    'stands inside epoch 2, after 1 of its 2 iterations': lambda c: c['meta'].update(iter=3),
    'its 1 epochs had 8 iterations, and one of this run has 2': lambda c: c['meta'].update(iter=8),
    'group 0: weight_decay is 0.5, and 0.05 in this run': lambda c: c['optimizer']['param_groups'][
        0
    ].update(weight_decay=0.5),
    'group 0: amsgrad is True, and False in this run': lambda c: [
        group.update(amsgrad=True) for group in c['optimizer']['param_groups']
    ],
    'group 0: lr is nan': lambda c: c['optimizer']['param_groups'][0].update(lr=float('nan')),
    'MultiStepLR: last_step is -7': lambda c: c['param_schedulers'][0].update(last_step=-7),
    'resumed_keys': lambda c: c['message_hub']['resumed_keys'].update(iter=False),
    'runtime_info.best_ckpt is 3': lambda c: (
        c['message_hub']['runtime_info'].update(best_ckpt=3),
        c['message_hub']['resumed_keys'].update(best_ckpt=True),
    ),
}


@pytest.mark.parametrize('message', CHANGES)
def test_another_state_is_refused(message, tmp_path):
    run(tmp_path)
    change(tmp_path, CHANGES[message])
    with pytest.raises(UserError, match=message):
        run(tmp_path, resume=True, epochs=2)


def test_another_schedule_is_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(UserError, match='it does not have the 1 schedulers of this run'):
        run(tmp_path, resume=True, epochs=2, schedulers=[dict(type='ConstantLR')])


@pytest.mark.parametrize('kind', [CheckedRunner, CheckedFlexibleRunner])
def test_a_longer_run_follows_its_own_schedule(kind, tmp_path, capsys):
    def schedulers(epochs: int) -> list[dict]:
        warm_up = dict(type='LinearLR', start_factor=0.1, begin=0, end=3, by_epoch=False)
        return [warm_up, dict(type='CosineAnnealingLR', T_max=epochs, eta_min=1e-5)]

    def rates(runner) -> list[float]:
        return [group['lr'] for group in runner.optim_wrapper.param_groups]

    longer = dict(kind=kind, epochs=3, schedulers=schedulers(4))
    whole = rates(run(tmp_path / 'whole', **longer))
    run(tmp_path / 'parts', kind=kind, epochs=1, schedulers=schedulers(2))
    assert 'another schedule' not in capsys.readouterr().out
    resumed = rates(run(tmp_path / 'parts', resume=True, **longer))
    assert resumed == pytest.approx(whole, rel=1e-12) and len({*whole, 0.001}) > 1
    said = ' '.join(capsys.readouterr().out.split())
    assert 'of another schedule (CosineAnnealingLR.T_max 2 instead of 4; ' in said


def test_another_rate_is_refused(tmp_path, monkeypatch):
    schedulers = [dict(type='MultiStepLR', milestones=[1])]
    run(tmp_path, schedulers=schedulers)
    monkeypatch.setitem(CASES, 'AdamW', dict(type='AdamW', lr=0.01))
    with pytest.raises(UserError, match='group 0: lr is 0.001, and 0.01 in this run'):
        run(tmp_path, resume=True, epochs=2, schedulers=schedulers)


def test_a_finished_run_says_so(tmp_path, capsys):
    run(tmp_path)
    run(tmp_path, resume=True)
    assert 'stands at its end, epoch 1' in ' '.join(capsys.readouterr().out.split())


def test_what_nobody_thought_of_is_damage(tmp_path, monkeypatch):
    run(tmp_path)
    monkeypatch.setattr(torch.optim.AdamW, 'load_state_dict', lambda *arguments: [][0])
    with pytest.raises(
        UserError, match='--resume .*epoch_1.pth cannot be continued from: IndexErr'
    ):
        run(tmp_path, resume=True, epochs=2)
