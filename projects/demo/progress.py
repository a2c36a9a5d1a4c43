"""Progress bars for trainings that run in other processes."""

from __future__ import annotations

from tqdm import tqdm

from ..runs.progress import newest_loss
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
        newest = newest_loss(self._folder.root)
        if newest is not None and newest[0] > self._bar.n:
            step, loss = newest
            self._bar.set_postfix(loss=f'{loss:.3f}', refresh=False)
            self._bar.update(step - self._bar.n)

    def close(self) -> None:
        self._bar.close()
