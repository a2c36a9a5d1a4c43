"""Hooks for mmengine's runner."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.registry import HOOKS
from torch import nn

from ...errors import RunFailed

HISTORY = '__history_buffer__'
_DIVERGED = (
    'the training diverged; lower the learning rate, clip gradients (optim_wrapper.clip_grad), or look at '
    'the data'
)


def stop_if_not_finite(model: nn.Module) -> None:
    """End the run, in all its processes, if something that ``model`` learned is infinite or not a number.

    A loss tells so only in the iteration after.

    Raises:
        RunFailed: names the first such parameter or running statistic.
    """
    statistics = ((n, b) for n, b in model.named_buffers() if '.running_' in n)
    learned = (*model.named_parameters(), *statistics)
    found = next((name for name, tensor in learned if not bool(tensor.isfinite().all())), None)
    is_found = torch.tensor(float(found is not None))
    all_reduce(is_found, 'max')
    if is_found:
        raise RunFailed(f'{found or "a weight"} is not finite any more: {_DIVERGED}')


@HOOKS.register_module()
class StopOnNonFiniteLossHook(Hook):
    """End the training with one clear line as soon as the loss is infinite or not a number.

    The runner moves the loss to the CPU for its log anyway, so looking at it costs nothing more.
    """

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        for name, tensor in (outputs or {}).items():
            value = float(torch.as_tensor(tensor).detach()) if 'loss' in name else 0.0
            if not math.isfinite(value):
                raise RunFailed(f'{name} is {value} at iteration {runner.iter + 1}: {_DIVERGED}')

    def after_train(self, runner: Any) -> None:
        stop_if_not_finite(runner.model)


@HOOKS.register_module()
class PlainCheckpointHook(Hook):
    """Keep checkpoints free of everything but tensors and plain Python values.

    Such a file can be read with ``torch.load(..., weights_only=True)`` by any version of torch. mmengine
    would store ``HistoryBuffer`` objects, numpy scalars and the functions of schedulers, which need an
    allow-list or unsafe loading.
    """

    priority = 'VERY_LOW'

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        for key in checkpoint.keys() - {'state_dict', 'ema_state_dict'}:
            checkpoint[key] = to_plain(checkpoint[key])
        if 'param_schedulers' in checkpoint:
            checkpoint['param_schedulers'] = _without_functions(checkpoint['param_schedulers'])

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        if 'message_hub' in checkpoint:
            checkpoint['message_hub'] = from_plain(checkpoint['message_hub'])


def to_plain(value: Any) -> Any:
    """Numpy values and ``HistoryBuffer`` as tensors and plain Python; other values as they are."""
    if isinstance(value, HistoryBuffer):
        log, count = value.data
        return {
            HISTORY: value.max_length,
            'log': torch.as_tensor(log, dtype=torch.float64),
            'count': torch.as_tensor(count, dtype=torch.float64),
        }
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(to_plain(item) for item in value)
    return value


def from_plain(value: Any) -> Any:
    """The inverse of :func:`to_plain` for ``HistoryBuffer``, at any depth."""
    if isinstance(value, dict):
        if HISTORY in value:
            return HistoryBuffer(
                value['log'].cpu().numpy(), value['count'].cpu().numpy(), value[HISTORY]
            )
        return {key: from_plain(item) for key, item in value.items()}
    return value


def _without_functions(value: Any) -> Any:
    """Drop the functions from scheduler states; a scheduler that resumes has its own."""
    if isinstance(value, list):
        return [_without_functions(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_functions(item) for key, item in value.items() if not callable(item)}
    return value
