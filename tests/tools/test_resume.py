"""A run that is killed and continued ends with the weights of one that never stopped."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import cv2
import pytest
import torch

from tests.tools.commands import DETECTION, SEGMENTATION, Result

# The real thing, at a known iteration: the process gets no chance to put anything in order. Workers of its
# data loader that were writing to it would wait forever, so it leaves a note of them.
KILLING_HOOK = """
import multiprocessing
import os
import signal
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class KillHook(Hook):
    def after_train_epoch(self, runner):
        image = os.environ.get('TRUNCATE')
        if image:
            Path(image).write_bytes(Path(image).read_bytes()[:-100])

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == int(os.environ.get('KILL_AFTER', 0)):
            workers = (str(process.pid) for process in multiprocessing.active_children())
            Path(runner.work_dir, 'workers').write_text(' '.join(workers))
            os.kill(os.getpid(), signal.SIGKILL)
"""

COMMON = """
import sys

sys.path.insert(0, {folder!r})
_base_ = [{base!r}]
custom_imports = dict(imports=['weightformer_mm', 'killing_hook'])
custom_hooks = [dict(type='KillHook')]
model = dict(backbone=dict(drop_path_rate=0.5))
train_dataloader = dict(
    batch_size=2,
    num_workers={workers},
    persistent_workers={workers} > 0,
    dataset=dict(data_root={root!r}),
    {sampler}
)
val_cfg = val_dataloader = val_evaluator = None
test_cfg = test_dataloader = test_evaluator = None
"""
# 8 images / batch 2 = 4 iterations in an epoch; killed in the middle of the second
BY_EPOCH = """
train_cfg = dict(max_epochs=2)
"""
# the sequence of 8 images begins anew after 4 iterations; killed between two checkpoints
BY_ITERATION = """
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=6, val_interval=100)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=1e-6, begin=0, end=6, by_epoch=False)]
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=3))
log_processor = dict(by_epoch=False)
"""
INFINITE = "sampler=dict(type='InfiniteSampler'),"


@pytest.fixture
def train(tools, tmp_path):
    (tmp_path / 'killing_hook.py').write_text(KILLING_HOOK)

    def run(config: str, *arguments: object, kill_after: int = 0, truncate: object = '') -> Result:
        (tmp_path / 'config.py').write_text(config)
        harm = {'KILL_AFTER': str(kill_after), 'TRUNCATE': str(truncate)}
        return tools.run('train', tmp_path / 'config.py', *arguments, env=harm)

    return run


def end(processes: list[int]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def state(folder: Path, name: str) -> dict:
    return torch.load(folder / f'{name}.pth', weights_only=True)


@pytest.mark.parametrize(
    ('base', 'by_epoch', 'workers'),
    [
        (DETECTION, True, 0),
        (DETECTION, False, 2),
        (SEGMENTATION, True, 2),
        (SEGMENTATION, False, 0),
    ],
)
def test_killed_run_ends_like_one_that_never_stopped(
    train, shapes, tmp_path, base, by_epoch, workers
):
    config = COMMON.format(
        folder=str(tmp_path),
        base=str(base),
        workers=workers,
        root=f'{shapes}/',
        sampler='' if by_epoch else INFINITE,
    )
    config += BY_EPOCH if by_epoch else BY_ITERATION
    first, last, kill_after = ('epoch_1', 'epoch_2', 6) if by_epoch else ('iter_3', 'iter_6', 5)

    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    train(config, '--work-dir', whole).ok()
    killed = train(config, '--work-dir', parts, kill_after=kill_after)
    end([int(process) for process in (parts / 'workers').read_text().split()])
    assert killed.code == -signal.SIGKILL
    assert sorted(path.name for path in parts.glob('*.pth')) == [f'{first}.pth']
    resumed = train(config, '--work-dir', parts, '--resume')
    assert f'Continuing from {parts}/{first}.pth' in resumed.ok()

    expected, found = state(whole, last), state(parts, last)
    assert found['meta']['iter'] == expected['meta']['iter']
    assert found['state_dict'].keys() == expected['state_dict'].keys()
    different = [
        name
        for name, weight in expected['state_dict'].items()
        if not torch.equal(weight, found['state_dict'][name])
    ]
    assert not different


@pytest.fixture
def jpegs(shapes, tmp_path) -> Path:
    """The data set with JPEG files for images."""
    folder = Path(shutil.copytree(shapes, tmp_path / 'jpegs'))
    for png in folder.glob('images/train/*.png'):
        cv2.imwrite(str(png.with_suffix('.jpg')), cv2.imread(str(png)))
        png.unlink()
    file = folder / 'annotations/instances_train.json'
    file.write_text(file.read_text().replace('.png', '.jpg'))
    return folder


def test_image_that_breaks_in_the_middle_of_a_run_costs_no_checkpoint(train, jpegs, tmp_path):
    config = COMMON.format(
        folder=str(tmp_path), base=str(DETECTION), workers=1, root=f'{jpegs}/', sampler=''
    )
    config += BY_EPOCH
    image, work_dir = jpegs / 'images/train/000005.jpg', tmp_path / 'work'
    whole = image.read_bytes()
    # the workers of the loader live on, so the epoch in which it breaks is the second of one run
    line = train(config, '--work-dir', work_dir, truncate=image).error_line()
    assert f'cannot read the image {image}: not an image, or damaged; ' in line
    assert line.endswith(f'--resume continues from {work_dir}/epoch_1.pth')
    assert [path.name for path in work_dir.glob('*.pth')] == ['epoch_1.pth']

    image.write_bytes(whole)
    train(config, '--work-dir', work_dir, '--resume').ok()
    assert state(work_dir, 'epoch_2')['meta']['iter'] == 8
