"""Progress bars for trainings that run in other processes."""

from __future__ import annotations

import json
from pathlib import Path

from tqdm import tqdm

from .tasks import TaskFolder


class TrainingBar:
    """A bar that follows the scalars which mmengine's logger writes."""

    def __init__(self, folder: TaskFolder, position: int):
        self._folder = folder
        self._bar = tqdm(
            total=folder.total_iterations(),
            desc=f'{folder.task.name:<12}',
            unit='it',
            position=position,
        )

    def update(self) -> None:
        newest = _newest(self._folder.root.glob('*/vis_data/scalars.json'))
        if newest is None:
            return
        losses = [line for line in _lines(newest) if 'loss' in line and 'step' in line]
        if losses and losses[-1]['step'] > self._bar.n:
            self._bar.set_postfix(loss=f'{losses[-1]["loss"]:.3f}', refresh=False)
            self._bar.update(losses[-1]['step'] - self._bar.n)

    def close(self) -> None:
        self._bar.close()


def _newest(paths) -> Path | None:
    return max(paths, key=lambda path: path.parent.parent.name, default=None)


def _lines(path: Path) -> list[dict]:
    complete = path.read_text().rpartition('\n')[0]  # the last line may still be being written
    return [json.loads(line) for line in complete.splitlines()]
