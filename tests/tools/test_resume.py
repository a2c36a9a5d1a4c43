"""A run that is killed and continued ends with the weights of one that never stopped."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import cv2
import pytest
import torch

from tests.helpers.commands import (
    DETECTION,
    QUICK,
    SEGMENTATION,
    Result,
    differing_weights,
    harmed_config,
)

# that of the configs, in the shortest form: a step of theirs takes seconds on one core
MUON = 'optim_wrapper = dict(optimizer=dict(ns_steps=1))\n'
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
train_dataloader.update(sampler=dict(type='InfiniteSampler'))
"""


@pytest.fixture
def train(tools, tmp_path):
    def run(config: str, *arguments: object, **harm: object) -> Result:
        (tmp_path / 'config.py').write_text(config)
        env = {'HARM': json.dumps(harm)}
        return tools.run('train', tmp_path / 'config.py', *arguments, env=env)

    return run


def state(folder: Path, name: str) -> dict:
    return torch.load(folder / f'{name}.pth', weights_only=True)


@pytest.mark.parametrize(
    ('base', 'by_epoch', 'workers', 'optimizer'),
    [
        (DETECTION, True, 0, MUON),
        (DETECTION, False, 2, QUICK),
        (SEGMENTATION, True, 2, QUICK),
        (SEGMENTATION, False, 0, QUICK),
    ],
)
def test_killed_run_ends_like_one_that_never_stopped(
    train, shapes, tmp_path, base, by_epoch, workers, optimizer
):
    config = harmed_config(base, shapes, workers) + optimizer
    config += BY_EPOCH if by_epoch else BY_ITERATION
    first, last, kill_after = ('epoch_1', 'epoch_2', 6) if by_epoch else ('iter_3', 'iter_6', 5)

    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    train(config, '--work-dir', whole).ok()
    killed = train(config, '--work-dir', parts, deed='kill', iteration=kill_after)
    assert killed.code == -signal.SIGKILL
    assert sorted(path.name for path in parts.glob('*.pth')) == [f'{first}.pth']
    resumed = train(config, '--work-dir', parts, '--resume')
    assert f'Continuing from {parts}/{first}.pth' in resumed.ok()

    assert not differing_weights(whole / f'{last}.pth', parts / f'{last}.pth')
    assert state(parts, last)['meta']['iter'] == state(whole, last)['meta']['iter']


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
    config = harmed_config(DETECTION, jpegs, workers=1) + QUICK + BY_EPOCH
    image, work_dir = jpegs / 'images/train/000005.jpg', tmp_path / 'work'
    whole = image.read_bytes()
    # the workers of the loader live on, so the epoch in which it breaks is the second of one run
    line = train(config, '--work-dir', work_dir, truncate=str(image)).error_line()
    assert f'cannot read the image {image}: not an image, or damaged; ' in line
    assert line.endswith(f'--resume continues from {work_dir}/epoch_1.pth')
    assert [path.name for path in work_dir.glob('*.pth')] == ['epoch_1.pth']

    image.write_bytes(whole)
    train(config, '--work-dir', work_dir, '--resume').ok()
    assert state(work_dir, 'epoch_2')['meta']['iter'] == 8
