"""Training hooks: initial weights, stopping when training diverges, checkpoints of plain values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook, ParamSchedulerHook
from mmengine.logging import HistoryBuffer
from mmengine.registry import HOOKS
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel

from ...checkpoints.match import unwrapped
from ...errors import RunFailed

HISTORY = '__history_buffer__'
_DIVERGED = (
    'the training diverged; lower the learning rate, clip gradients (optim_wrapper.clip_grad), or look at '
    'the data'
)


def stop_if_not_finite(model: nn.Module) -> None:
    """Raise RunFailed, in all processes, if a parameter or running statistic is not finite.

    The loss would not show it until the next iteration.
    """
    statistics = ((n, b) for n, b in model.named_buffers() if '.running_' in n)
    learned = (*model.named_parameters(), *statistics)
    found = next((name for name, tensor in learned if not tensor.isfinite().all()), None)
    is_found = torch.tensor(float(found is not None))
    all_reduce(is_found, 'max')
    if is_found:
        raise RunFailed(f'{found or "a weight"} is not finite any more: {_DIVERGED}')


class SchedulesHook(ParamSchedulerHook):
    """``ParamSchedulerHook`` that passes over an evaluation that gives nothing, for want of detections."""

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        super().after_val_epoch(runner, metrics or None)


class InitialWeightsHook(Hook):
    """Give the runner and the later hooks a whole model's weights, with the checked ones in place.

    mmengine itself would load them leniently.
    """

    priority = 'HIGHEST'

    def __init__(self, weights: dict[str, Tensor]):
        self.weights = weights

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        # each process holds only parts of a sharded model
        is_sharded = isinstance(runner.model, FullyShardedDataParallel)
        own = {} if is_sharded else unwrapped(runner.model).state_dict()
        checkpoint.clear()
        takes_all = self.weights.keys() <= own.keys()
        checkpoint['state_dict'] = {**own, **self.weights} if takes_all else self.weights
        self.weights = {}


@HOOKS.register_module()
class StopOnNonFiniteLossHook(Hook):
    """End the training with one clear line as soon as the loss is not finite.

    The runner moves the loss to the CPU for its log anyway, so this costs nothing extra.
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

    Every version of torch can read them with ``weights_only=True``. mmengine would store ``HistoryBuffer``
    objects, numpy scalars and functions of schedulers, which need an allow-list or unsafe loading.
    """

    priority = 'VERY_LOW'

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        for key in checkpoint.keys() - {'state_dict', 'ema_state_dict'}:
            checkpoint[key] = to_plain(checkpoint[key])

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        if 'message_hub' in checkpoint:
            checkpoint['message_hub'] = from_plain(checkpoint['message_hub'])


def to_plain(value: Any) -> Any:
    """Turn numpy values and ``HistoryBuffer`` into tensors and plain Python, and drop functions from dicts.

    A scheduler that resumes already has its functions. Other values stay unchanged.
    """
    if isinstance(value, HistoryBuffer):
        log, count = (torch.as_tensor(part, dtype=torch.float64) for part in value.data)
        return {HISTORY: value.max_length, 'log': log, 'count': count}
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items() if not callable(item)}
    if type(value) in (list, tuple):
        return type(value)(to_plain(item) for item in value)
    return value


def from_plain(value: Any) -> Any:
    """The inverse of `to_plain` for ``HistoryBuffer``, at any depth."""
    if isinstance(value, dict):
        if HISTORY in value:
            log, count = (value[part].cpu().numpy() for part in ('log', 'count'))
            return HistoryBuffer(log, count, value[HISTORY])
        return {key: from_plain(item) for key, item in value.items()}
    return value
