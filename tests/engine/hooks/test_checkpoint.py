"""What a run removes: its own outdated checkpoints, and nothing that a resumed checkpoint talks it into."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel

from weightformer_mm.checkpoints.schemes import use_safe_loading
from weightformer_mm.engine.runner.runner import CheckedRunner
from weightformer_mm.errors import UserError


class Line(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        loss = (torch.stack(inputs) - self.weight).square().mean()
        return {'loss': loss} if mode == 'loss' else [loss]


class Rising(BaseMetric):
    """Grows with the epochs, in all runs of a test."""

    value = 0

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        Rising.value += 1
        return {'acc': float(Rising.value), 'mIoU': float(Rising.value)}


@pytest.fixture
def run():
    use_safe_loading()
    Rising.value = 0
    names = iter(range(100))

    def train(folder: Path, epochs: int, resume: Path | None = None, schedule=None, **checkpoints):
        data = torch.utils.data.DataLoader(
            [{'inputs': torch.ones(1)}] * 4,
            2,
            collate_fn=lambda batch: {'inputs': [item['inputs'] for item in batch]},
        )
        CheckedRunner(
            Line(),
            str(folder),
            train_dataloader=data,
            train_cfg={'by_epoch': True, 'max_epochs': epochs, 'val_interval': 1},
            val_dataloader=data,
            val_cfg={},
            val_evaluator=Evaluator(Rising()),
            param_scheduler=schedule,
            optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.1}},
            default_hooks={'checkpoint': {'type': 'CheckpointHook', 'interval': 1, **checkpoints}},
            custom_hooks=[{'type': 'PlainCheckpointHook'}],
            resume=resume is not None,
            load_from=resume and str(resume),
            experiment_name=f'{folder.parent.name}{next(names)}',
        ).train()

    return train


def checkpoints(folder: Path) -> set[str]:
    return {path.name for path in folder.glob('*.pth')}


@pytest.mark.parametrize('keep', [1, 2])
@pytest.mark.parametrize('best', ['acc', ['acc', 'mIoU'], 'auto'])
def test_what_is_kept(run, tmp_path, keep, best):
    run(tmp_path / 'work', 3, max_keep_ckpts=keep, save_best=best)
    bests = {f'best_{name}_epoch_3.pth' for name in (best if isinstance(best, list) else ['acc'])}
    last = {f'epoch_{number}.pth' for number in range(4 - keep, 4)}
    assert checkpoints(tmp_path / 'work') == last | bests
    assert (tmp_path / 'work/last_checkpoint').read_text() == str(tmp_path / 'work/epoch_3.pth')


@pytest.mark.parametrize('best', ['acc', ['acc', 'mIoU']])
def test_the_best_are_published(run, tmp_path, best):
    run(tmp_path / 'work', 2, save_best=best, published_keys=['state_dict'], save_last=False)
    published = {name.rpartition('-')[0] for name in checkpoints(tmp_path / 'work') if '-' in name}
    names = best if isinstance(best, list) else [best]
    assert published == {f'best_{name}_epoch_2' for name in names}


def test_a_run_that_keeps_all_resumes(run, tmp_path):
    run(tmp_path / 'work', 1)
    run(tmp_path / 'work', 2, tmp_path / 'work/epoch_1.pth')
    assert checkpoints(tmp_path / 'work') == {'epoch_1.pth', 'epoch_2.pth'}


@pytest.mark.parametrize('best', ['acc', ['acc', 'mIoU']])
def test_a_copied_run_leaves_the_original_alone(run, tmp_path, best):
    original, copy = tmp_path / 'original', tmp_path / 'copy'
    run(original, 1, max_keep_ckpts=1, save_best=best)
    before = checkpoints(original)
    shutil.copytree(original, copy)
    run(copy, 2, copy / 'epoch_1.pth', max_keep_ckpts=1, save_best=best)
    assert checkpoints(original) == before
    assert checkpoints(copy) == {name.replace('_1', '_2') for name in before}


FOREIGN = ('tree/inner/file.txt', 'tree/best_acc_epoch_1.pth', 'work/notes.pth', 'work/data/a.png')


@pytest.mark.parametrize(
    'crafted',
    [
        {'best_ckpt': '{root}/tree'},
        {'best_ckpt': '{root}/tree/best_acc_epoch_1.pth'},
        {'best_ckpt': '{root}/work'},
        {'best_ckpt': '{root}/work/notes.pth'},
        {'best_ckpt': '{root}/work/data'},
        {'best_ckpt': '{root}/work/../tree/best_acc_epoch_1.pth'},
        {'best_ckpt': 7},
        {'keep_ckpt_ids': ['../tree/x', 'a/../../tree', 1.5, None, True]},
        {'keep_ckpt_ids': '../tree'},
        {'keep_ckpt_ids': 5},
    ],
    ids=str,
)
def test_a_crafted_checkpoint_has_nothing_removed(run, tmp_path, crafted):
    work = tmp_path / 'work'
    run(work, 1, max_keep_ckpts=1, save_best='acc')
    for name in FOREIGN:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('precious')
    checkpoint = torch.load(work / 'epoch_1.pth', weights_only=True)
    for key, value in crafted.items():
        value = value.format(root=tmp_path) if isinstance(value, str) else value
        checkpoint['message_hub']['runtime_info'][key] = value
    torch.save(checkpoint, work / 'epoch_1.pth')
    before = checkpoints(work)
    try:
        run(work, 3, work / 'epoch_1.pth', max_keep_ckpts=1, save_best='acc')
    except UserError as error:
        assert list(crafted)[0] in str(error) and checkpoints(work) == before
    else:
        assert {'epoch_3.pth', 'best_acc_epoch_3.pth'} <= checkpoints(work)
    assert all((tmp_path / name).read_text() == 'precious' for name in FOREIGN)


def test_weights_that_were_saved_and_not_evaluated_are_evaluated_when_the_run_resumes(
    run, tmp_path, monkeypatch
):
    def stop(self, runner, metrics):
        raise KeyboardInterrupt

    work = tmp_path / 'work'
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr('mmengine.hooks.CheckpointHook._save_best_checkpoint', stop)
        run(work, 1, save_best='acc')
    assert checkpoints(work) == {'epoch_1.pth'}
    run(work, 1, work / 'epoch_1.pth', save_best='acc')
    assert checkpoints(work) == {'epoch_1.pth', 'best_acc_epoch_1.pth'}


def test_an_evaluation_that_gives_nothing_changes_no_rate(run, tmp_path, monkeypatch):
    monkeypatch.setattr(Rising, 'compute_metrics', lambda self, results: {})
    plateau = {'type': 'ReduceOnPlateauLR', 'monitor': 'acc', 'rule': 'greater', 'patience': 0}
    run(tmp_path / 'work', 3, schedule=plateau, save_best='acc')
    last = torch.load(tmp_path / 'work/epoch_3.pth', weights_only=True)
    assert last['optimizer']['param_groups'][0]['lr'] == 0.1
