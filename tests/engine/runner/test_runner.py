from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import DATASETS
from mmengine.runner import Runner

from weightformer_mm.checkpoints.match import check_matches
from weightformer_mm.engine.runner.runner import CheckedRunner
from weightformer_mm.errors import RunFailed, UserError
from weightformer_mm.utils.writing import make_folder, staged


class Line(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return {'loss': (torch.stack(inputs) - self.weight).square().mean()}


@pytest.fixture
def runner(tmp_path):
    dataset = [{'inputs': torch.ones(1)}] * 4
    return CheckedRunner(
        Line(),
        str(tmp_path / 'work'),
        train_dataloader=torch.utils.data.DataLoader(
            dataset, 2, collate_fn=lambda batch: {'inputs': [item['inputs'] for item in batch]}
        ),
        train_cfg={'by_epoch': True, 'max_epochs': 2},
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.1}},
        default_hooks={'checkpoint': {'type': 'CheckpointHook', 'interval': 1}},
        experiment_name=tmp_path.name,
    )


def test_a_checkpoint_that_cannot_be_written_leaves_the_earlier_ones(runner, monkeypatch):
    work_dir = make_folder(runner.work_dir, '--work-dir')
    write = Runner.save_checkpoint

    def disk_is_full(self, out_dir, filename, *args, **kwargs):
        write(self, out_dir, filename, *args, **kwargs)
        if self.epoch == 1:
            Path(out_dir, filename).write_bytes(b'half')
            raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(Runner, 'save_checkpoint', disk_is_full)
    with pytest.raises(RunFailed, match='cannot write .*/epoch_2.pth: No space left'):
        runner.train()
    assert {path.name for path in work_dir.glob('*epoch*')} == {'epoch_1.pth'}
    assert (work_dir / 'last_checkpoint').read_text() == str(work_dir / 'epoch_1.pth')
    checkpoint = torch.load(work_dir / 'epoch_1.pth', weights_only=False)
    check_matches(Line(), checkpoint, 'epoch_1.pth')


def test_what_the_package_says_is_in_the_log_of_the_run(runner):
    logging.getLogger('weightformer_mm.ops._shared.dispatch').info('uses this backend')
    (log,) = Path(runner.work_dir).rglob('*.log')
    assert 'uses this backend' in log.read_text()


def test_data_loader_errors_are_explained():
    @DATASETS.register_module(name='FailsWith', force=True)
    def fails_with(error, **kwargs):
        raise error

    def build(error: Exception):
        dataset = {'type': 'FailsWith', 'error': error, 'data_root': 'root', 'ann_file': 'a.json'}
        CheckedRunner.build_dataloader({'dataset': dataset, 'batch_size': 1})

    with pytest.raises(UserError, match='no image of root/a.json is left'):
        build(ValueError('need at least one array to concatenate'))
    with pytest.raises(ValueError, match='another'):
        build(ValueError('another'))
    with pytest.raises(UserError, match='num_workers=0 needs persistent_workers=False'):
        CheckedRunner.build_dataloader(
            {
                'dataset': torch.utils.data.TensorDataset(torch.ones(2)),
                'sampler': {'type': 'DefaultSampler'},
                'batch_size': 1,
                'num_workers': 0,
                'persistent_workers': True,
            }
        )


def test_staged_files_appear_at_the_end_or_not_at_all(tmp_path):
    (tmp_path / 'labels').mkdir()
    (tmp_path / 'labels/mine.txt').write_text('kept')
    with pytest.raises(RuntimeError), staged(tmp_path) as stage:
        (stage / 'metrics.json').write_text('{}')
        raise RuntimeError
    assert {path.name for path in tmp_path.rglob('*')} == {'labels', 'mine.txt'}
    with staged(tmp_path) as stage:
        (stage / 'labels').mkdir()
        (stage / 'labels/a.png').write_text('new')
        assert not (tmp_path / 'labels/a.png').exists()
    assert {path.name for path in tmp_path.rglob('*')} == {'labels', 'mine.txt', 'a.png'}
