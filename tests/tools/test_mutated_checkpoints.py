"""No checkpoint, however damaged or crafted, runs anything, ends in a traceback, or is taken in silence.

All of them: ``pytest -m slow tests/tools/test_mutated_checkpoints.py -s``, which prints the counts.
``SHARD=0/2`` takes every second one, for two processes.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch

from tests.helpers.commands import Result, Run, Tools
from tests.helpers.mutations import (
    CRAFTED,
    FILES,
    INERT,
    SAFETENSORS,
    SAME,
    WEIGHTS,
    ZIP,
    Mutation,
    write,
)
from tests.helpers.state_mutations import NAMES, RUN_STATE
from weightformer_mm.checkpoints.safe_load import load_checkpoint_file

ALL = {**WEIGHTS, **FILES, **CRAFTED, **RUN_STATE, **NAMES}
NUMBER, SAMPLE = 600, 8
FIRST, STEP = map(int, os.environ.get('SHARD', '0/1').split('/'))


class Campaign:
    """Runs a tool on a changed copy of a trained checkpoint, and counts what came of it."""

    def __init__(self, tools: Tools, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tools, self.folder = tools, folder
        self.trace = folder / 'trace'
        monkeypatch.setenv('MUTATION_TRACE', str(self.trace))
        self.counts: Counter = Counter()
        self.bad: list[str] = []

    def take(self, number: int, run: Run) -> None:
        draw = random.Random(number)
        name = list(ALL)[number % len(ALL)]
        mutation = ALL[name]
        tool, form = draw.choice(mutation.tools), draw.choice(mutation.formats)
        if tool == 'resume' and form == SAFETENSORS:
            form = ZIP
        whole = torch.load(run.checkpoint, weights_only=True)
        path = write(whole, mutation, form, self.folder / 'mutated', draw)
        result = self._run(tool, run, path)
        outcome = self._outcome(result, mutation, path, whole)
        self.counts[outcome] += 1
        if outcome not in ('refused', 'accepted, as nothing tells it apart', 'accepted, the same'):
            error = ' '.join(result.err.split())[-300:]
            self.bad.append(
                f'{number} {name} ({form}, {tool}, {run.config.name}): {outcome}: {error}'
            )
            print(self.bad[-1], flush=True)
        path.unlink()

    def _run(self, tool: str, run: Run, path: Path) -> Result:
        out = self.folder / 'out'
        shutil.rmtree(out, ignore_errors=True)
        image = next((run.data / 'images/val').glob('*.png'))
        # load_from takes one step, and what resumes has nothing left to do
        changes = {'train_cfg__max_epochs': 1, 'train_cfg__val_interval': 9}
        few = {'train_dataloader__dataset__indices': 4, **changes}
        arguments = {
            'test': ('test', run.config, path, '--work-dir', out, *run.options()),
            'infer': ('infer', run.config, path, image, '--out', out),
            'load_from': (
                *('train', run.config, '--work-dir', out),
                *run.options(load_from=path, **few),
            ),
            'resume': (
                *('train', run.config, '--work-dir', out, '--resume', path),
                *run.options(**changes),
            ),
        }
        return self.tools.run(*arguments[tool])

    def _outcome(self, result: Result, mutation: Mutation, path: Path, whole: dict) -> str:
        if self.trace.exists():
            shutil.rmtree(self.trace) if self.trace.is_dir() else self.trace.unlink()
            return 'EXECUTED'
        lines = result.err.strip().splitlines()
        if result.code == 2 and len(lines) == 1 and 'error: ' in lines[0]:
            return 'refused'
        if result.code != 0:
            return 'TRACEBACK'
        if mutation.expected == INERT:
            return 'accepted, as nothing tells it apart'
        if mutation.expected == SAME and same(load_checkpoint_file(path, with_config=True), whole):
            return 'accepted, the same'
        return 'ACCEPTED'


def same(one: object, other: object) -> bool:
    """Whether two checkpoints are equal bit for bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return one == other


@pytest.fixture
def campaign(tools, tmp_path, monkeypatch) -> Campaign:
    return Campaign(tools, tmp_path, monkeypatch)


@pytest.mark.timeout(600)
def test_a_sample(campaign, segmentation):
    for number in random.Random(0).sample(range(NUMBER), SAMPLE):
        campaign.take(number, segmentation)
    assert not campaign.bad, '\n'.join(campaign.bad)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all(campaign, detection, segmentation):
    for number in range(FIRST, NUMBER, STEP):
        campaign.take(number, (detection, segmentation)[number // len(ALL) % 2])
        if number % 30 == FIRST:
            print(number, dict(campaign.counts), flush=True)
    print('\n' + '\n'.join(f'{count:4} {outcome}' for outcome, count in campaign.counts.items()))
    assert not campaign.bad
