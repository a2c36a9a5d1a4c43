from __future__ import annotations

import pytest
import torch
from mmengine.model import BaseModel, BaseTTAModel
from torch import nn

from weightformer_mm.engine import UserError
from weightformer_mm.engine.checkpoint_check import check_matches, check_resumable


class Model(BaseModel):
    def __init__(self, width: int = 4, extra: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))
        if extra:
            self.mask_head = nn.Linear(width, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.body(inputs)


class Renamed(Model):
    """Takes files in which ``body`` was still called ``trunk``."""

    def _load_from_state_dict(self, state_dict, prefix, *args):
        for key in [key for key in state_dict if key.startswith(f'{prefix}trunk')]:
            state_dict[key.replace('trunk', 'body')] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args)


class TTA(BaseTTAModel):
    def merge_preds(self, data_samples_list):
        return data_samples_list


def saved(model: nn.Module) -> dict:
    return {'state_dict': model.state_dict(), 'meta': {'experiment_name': 'some_run'}}


@pytest.mark.parametrize(
    'checkpoint',
    [
        saved(Model()),
        Model().state_dict(),
        {'state_dict': {f'module.{k}': v for k, v in Model().state_dict().items()}},
        {k: v for k, v in Model().state_dict().items() if 'num_batches' not in k},
    ],
    ids=['checkpoint', 'weights alone', 'of DDP', 'without counters'],
)
def test_its_own_checkpoint_matches(checkpoint):
    check_matches(Model(), checkpoint, 'a.pth')
    check_matches(TTA(Model()), checkpoint, 'a.pth')


def test_a_checkpoint_that_the_model_converts_matches():
    old = {key.replace('body', 'trunk'): value for key, value in Model().state_dict().items()}
    check_matches(Renamed(), old, 'a.pth')
    with pytest.raises(UserError):
        check_matches(Model(), old, 'a.pth')


def test_what_differs_is_named():
    with pytest.raises(UserError) as caught:
        check_matches(Model(5, extra=True), saved(Model(4)), 'a.pth')
    text = str(caught.value)
    assert ' and 3 more. ' in text
    assert text.startswith('a.pth is a checkpoint of another model (of the run some_run): ')
    assert 'weights missing: mask_head.weight, mask_head.bias; unexpected: none; ' in text
    assert 'of another shape: body.0.weight (4, 3) instead of (5, 3), ' in text

    with pytest.raises(UserError, match='unexpected: mask_head.weight, mask_head.bias;'):
        check_matches(Model(), saved(Model(extra=True)), 'a.pth')


@pytest.mark.parametrize('checkpoint', [{}, {'state_dict': 3}, {'a': 1}, {'state_dict': {'a': 1}}])
def test_no_weights(checkpoint):
    with pytest.raises(UserError, match='a.pth holds no weights of a model'):
        check_matches(Model(), checkpoint, 'a.pth')


def test_resuming_needs_the_state_of_a_run():
    run = {'meta': {'epoch': 1, 'iter': 2}, 'message_hub': {}, 'optimizer': {}}
    check_resumable(run, 'a.pth')
    for key in run:
        with pytest.raises(UserError, match=f'{key} missing.*load_from=a.pth'):
            check_resumable({k: v for k, v in run.items() if k != key}, 'a.pth')
    with pytest.raises(UserError, match='iter missing'):
        check_resumable({**run, 'meta': {'epoch': 1}}, 'a.pth')


def test_the_check_does_not_change_the_checkpoint():
    checkpoint = saved(Model())
    before = {key: value.clone() for key, value in checkpoint['state_dict'].items()}
    with pytest.raises(UserError):
        check_matches(Model(5), checkpoint, 'a.pth')
    assert before.keys() == checkpoint['state_dict'].keys()
    assert all(torch.equal(before[key], value) for key, value in checkpoint['state_dict'].items())
