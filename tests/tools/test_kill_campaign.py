"""Trainings killed at random file operations lose nothing, and end like one that never was.

By hand: ``pytest -m slow -s tests/tools/test_kill_campaign.py``; ``KILLS`` says how many (default 100).
"""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path

import pytest
import torch

from tests.helpers.commands import (
    DETECTION,
    QUICK,
    SEGMENTATION,
    differing_weights,
    harmed_config,
)

KILLS = int(os.environ.get('KILLS', '100'))
EPOCHS = 3
METRICS = {DETECTION: 'coco/bbox_mAP', SEGMENTATION: 'mIoU'}
CASES = [
    (base, keep, evaluates)
    for base in (DETECTION, SEGMENTATION)
    for keep in (1, 2)
    for evaluates in (False, True)
]
SCHEDULE = """
train_cfg = dict(max_epochs={epochs}, val_interval=1)
default_hooks = dict(checkpoint=dict(max_keep_ckpts={keep}, save_best={best!r}))
"""


class Campaign:
    """Runs one case in folders below ``root``, killed again and again."""

    def __init__(
        self, tools, data: Path, root: Path, base: Path, keep: int, evaluates: bool
    ) -> None:
        self.tools, self.root, self.keep = tools, root, keep
        self.config = root / 'config.py'
        best = METRICS[base] if evaluates else None
        schedule = SCHEDULE.format(epochs=EPOCHS, keep=keep, best=best)
        text = harmed_config(base, data, evaluates=evaluates)
        self.config.write_text(text + QUICK + schedule)
        self.kills = self.resumed = self.operations = 0

    def train(self, folder: Path, *arguments: object, **harm: object):
        env = {'HARM': json.dumps({'folder': str(folder), **harm})}
        return self.tools.run('train', self.config, '--work-dir', folder, *arguments, env=env)

    def reference(self) -> Path:
        """A run that is not killed, with the number of its file operations noted."""
        folder = self.root / 'reference'
        self.train(folder, count=str(self.root / 'count')).ok()
        self.operations = int((self.root / 'count').read_text())
        return folder

    def killed(self, name: str, chance: random.Random, most: int) -> Path:
        """A run that is killed up to ``most`` times, then goes on to its end."""
        folder = self.root / name
        saved, has_best = -1, False
        for number in range(most):
            operation = chance.randint(1, self.operations)
            result = self.train(folder, *(['--resume'] if number else []), operation=operation)
            if result.code == 0:  # fewer operations were left
                return folder
            assert result.code == -signal.SIGKILL, result.err
            self.kills += 1
            newest, bests = self.whole(folder)
            assert newest >= saved, f'operation {operation} lost epoch {saved}'
            assert bests or not has_best, f'operation {operation} lost the best checkpoint'
            saved, has_best = newest, bool(bests)
        result = self.train(folder, '--resume')
        result.ok()
        self.resumed += 1
        assert ('Continuing from' in result.out) == (saved >= 0)
        return folder

    def whole(self, folder: Path) -> tuple[int, int]:
        """The newest epoch on the disk, and how many best checkpoints; all of them can be read."""
        epochs = {int(path.stem[6:]): path for path in folder.glob('epoch_*.pth')}
        bests = list(folder.glob('best_*.pth'))
        for path in (*epochs.values(), *bests):
            torch.load(path, weights_only=True)
        return max(epochs, default=-1), len(bests)


def run_case(tools, data: Path, root: Path, case: tuple, kills: int, seed: int) -> Campaign:
    campaign = Campaign(tools, data, root, *case)
    reference, chance, number = campaign.reference(), random.Random(seed), 0
    while campaign.kills < kills:
        folder = campaign.killed(f'run{number}', chance, min(3, kills - campaign.kills))
        for saved in (reference / f'epoch_{EPOCHS}.pth', *reference.glob('best_*.pth')):
            assert not differing_weights(saved, folder / saved.name)
        assert len(list(folder.glob('epoch_*.pth'))) <= campaign.keep + 1
        assert not list(folder.glob('.*partial*'))
        number += 1
    return campaign


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize('case', CASES, ids=str)
def test_campaign(tools, shapes, tmp_path, case):
    kills = -(-KILLS // len(CASES))
    campaign = run_case(tools, shapes, tmp_path, case, kills, seed=CASES.index(case))
    print(
        f'\n{case[0].stem}, keep {case[1]}, save_best {case[2]}: {campaign.kills} kills, '
        f'{campaign.resumed} runs resumed to the end, 0 lost, all bit-equal'
    )


def test_a_few_kills(tools, shapes, tmp_path):
    campaign = run_case(tools, shapes, tmp_path, (SEGMENTATION, 1, True), kills=2, seed=0)
    assert campaign.kills == 2
