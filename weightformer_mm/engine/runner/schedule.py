"""A resumed run whose schedule is another than that of its checkpoint, such as one with more epochs.

The state of a scheduler holds its shape too. mmengine loads all of it, so the old end would stay.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from numbers import Number
from typing import Any

from mmengine.optim import ReduceOnPlateauParamScheduler
from mmengine.runner import EpochBasedTrainLoop

from ..hooks.training import to_plain

# where a scheduler stands, and what its own groups of parameters began with
_POSITION = {'_global_step', '_last_value', 'base_values', 'last_step'}


def changes(own: list[Any], saved: list[dict[str, Any]]) -> Iterator[str]:
    """What another schedule has in another way than this run's: numbers, and containers of numbers."""
    for scheduler, state in zip(own, saved):
        if isinstance(scheduler, ReduceOnPlateauParamScheduler):  # it follows the results
            continue
        for key, value in to_plain(scheduler.state_dict()).items():
            is_shape = value is None or isinstance(value, (Number, list, tuple, dict))
            if key not in _POSITION and is_shape and state.get(key) != value:
                yield f'{type(scheduler).__name__}.{key} {state.get(key)} instead of {value}'


class Schedule:
    """A run's own schedulers as they were built, before the state of a checkpoint is loaded into them.

    Args:
        changes: how the schedule of the checkpoint differs.
    """

    def __init__(self, runner: Any, changes: list[str]) -> None:
        self.changes = changes
        self.states = [dict(vars(scheduler)) for scheduler in runner.param_schedulers]
        self.values = [
            {key: value for key, value in group.items() if f'initial_{key}' in group}
            for group in runner.optim_wrapper.param_groups
        ]

    def replay(self, runner: Any) -> None:
        """Bring them to where the run stands, as if it had followed them from the beginning."""
        runner.logger.warning(
            f'The checkpoint is of another schedule ({"; ".join(self.changes)}): the run goes on with its '
            'own, as if it had begun with it'
        )
        loop = runner.train_loop
        for group, values in zip(runner.optim_wrapper.param_groups, self.values):
            group.update(values)
        for scheduler, state in zip(runner.param_schedulers, self.states):
            vars(scheduler).update(state)
        length = len(loop.dataloader) if isinstance(loop, EpochBasedTrainLoop) else math.inf
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # the optimizer takes no steps
            for iteration in range(1, loop.iter + 1):
                for scheduler in runner.param_schedulers:
                    if not scheduler.by_epoch or iteration % length == 0:
                        scheduler.step()
