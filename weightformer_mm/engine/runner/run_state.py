"""Is the state of a run in a checkpoint that of this run? torch and mmengine would take any and go on."""

from __future__ import annotations

import copy
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from numbers import Number
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.optim import BaseOptimWrapper, OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch import Tensor, nn

from ...checkpoints.match import compare, get_state_dict, unusable, unwrapped
from ...checkpoints.resumable import check_resumable, is_count
from ...errors import UserError
from ..hooks.training import HISTORY
from .fsdp import plain_name

_MANY = 8  # among so many parameters none has values of a kind of its own
_HISTORY_PARTS = {'max_length', '_log_history', '_count_history'}
# what mmengine's CheckpointHook goes by; the paths it must not trust are another matter
_INFO = {'best_ckpt': str, 'last_ckpt': str, 'best_score': Number, 'keep_ckpt_ids': list}


class CheckRunStateHook(Hook):
    """Look at the state of a run as soon as it is read, before anything of it is taken over."""

    priority = 'HIGHEST'

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = path

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        check_run_state(runner, checkpoint, self.path)


def check_run_state(runner: Any, checkpoint: dict[str, Any], path: str | os.PathLike) -> None:
    """Compare progress, optimizer, schedulers, message hub and averaged weights with a runner just built.

    Args:
        runner: its optimizer and schedulers are compared where they are built.
        checkpoint: as it was read.

    Raises:
        UserError: they are not those of a run like this one; says the first difference.
    """
    check_resumable(checkpoint, path)
    for problem in _problems(runner, checkpoint):
        raise UserError(
            f'--resume {path}: {problem}; the file is damaged, or of a run with another config. To start '
            f'from its weights alone: --cfg-options load_from={path}'
        )


def _problems(runner: Any, checkpoint: dict[str, Any]) -> Iterator[str]:
    yield from _loop_problems(runner.train_loop, checkpoint['meta'])
    yield from _scheduler_problems(runner.param_schedulers, checkpoint.get('param_schedulers'))
    weights = get_state_dict(checkpoint, 'state_dict')
    wrapper = runner.optim_wrapper
    if isinstance(wrapper, BaseOptimWrapper):
        own = dict(wrapper.items()) if isinstance(wrapper, OptimWrapperDict) else {'': wrapper}
        saved = checkpoint['optimizer'] if '' not in own else {'': checkpoint['optimizer']}
        if own.keys() != saved.keys():
            yield f'optimizers {", ".join(map(str, saved))} instead of {", ".join(own)}'
            return
        for name, one in own.items():
            state = _OptimizerState(runner, one, saved[name], weights)
            yield from (
                f'optimizer {name}'.strip() + f': {problem}' for problem in state.problems()
            )
    yield from _hub_problems(checkpoint['message_hub'])
    if 'ema_state_dict' in checkpoint:
        yield from _average_problems(unwrapped(runner.model), checkpoint['ema_state_dict'])


def _loop_problems(loop: Any, meta: Mapping[str, Any]) -> Iterator[str]:
    for kind, key in ((EpochBasedTrainLoop, 'epoch'), (IterBasedTrainLoop, 'iter')):
        end = getattr(loop, f'max_{key}s', math.inf)
        if isinstance(loop, kind) and meta[key] > end:
            yield f'it stands at {key} {meta[key]}, and this run ends at {end}'


class _OptimizerState:
    """The state of one optimizer, beside the optimizer that is to take it over."""

    def __init__(
        self, runner: Any, wrapper: OptimWrapper, saved: Any, weights: Mapping[str, Tensor]
    ) -> None:
        self.runner, self.wrapper, self.saved = runner, wrapper, saved
        names = {id(p): plain_name(name) for name, p in unwrapped(runner.model).named_parameters()}
        self.groups = [
            [(names.get(id(p), '?'), p) for p in group['params']]
            for group in wrapper.optimizer.param_groups
        ]
        # those of a sharded model are parts; the checkpoint holds whole ones
        self.parameters = [
            (name, weights.get(name, p)) for group in self.groups for name, p in group
        ]

    def problems(self) -> Iterator[str]:
        saved = self.saved
        parts = ('state', dict), ('param_groups', list)
        if not isinstance(saved, dict) or not all(isinstance(saved.get(k), t) for k, t in parts):
            yield 'it has no state and param_groups'
        elif len(saved['param_groups']) != len(self.groups):
            yield f'{len(saved["param_groups"])} groups of parameters instead of {len(self.groups)}'
        else:
            rest = {key: value for key, value in saved.items() if key not in dict(parts)}
            if not _is_plain(rest, finite=True):
                yield f'{", ".join(map(str, rest))} hold something other than finite numbers'
            yield from self._group_problems(saved['param_groups'])
            yield from self._state_problems(saved['state'])

    def _group_problems(self, saved: list) -> Iterator[str]:
        first = 0
        optimizer = self.wrapper.optimizer
        for index, (parameters, group) in enumerate(zip(self.groups, saved)):
            numbers = list(range(first, first + len(parameters)))
            first += len(parameters)
            if not isinstance(group, dict) or group.get('params') != numbers:
                yield f'group {index} is not of its {len(numbers)} parameters'
                return
        # options that later versions of an optimizer have besides are filled in as it takes them over;
        # those lack in every group
        known = set().union(*saved)
        filled = copy.copy(optimizer)
        filled.__setstate__({'state': {}, 'param_groups': [dict(group) for group in saved]})
        for index, (own, group) in enumerate(zip(optimizer.param_groups, filled.param_groups)):
            for key in {**own, **group}:
                value = (saved[index] if key in known else group).get(key, _NOTHING)
                if key != 'params' and not _is_alike(own.get(key, _NOTHING), value):
                    yield f'group {index}: {key} is {_shown(value)}'

    def _state_problems(self, saved: dict) -> Iterator[str]:
        odd = [number for number in saved if not is_count(number) or number >= len(self.parameters)]
        if odd or not all(isinstance(entry, dict) for entry in saved.values()):
            yield f'state of {len(odd)} parameters that it has not'
            return
        kinds: dict[Any, Counter] = {}
        for number, entry in saved.items():
            for key, value in entry.items():
                name, weight = self.parameters[number]
                is_step = key == 'step'
                fits = _is_alike(0, value) if is_step else _is_plain(value, finite=True)
                if not fits or (is_step and float(value) < 0):
                    yield f'{key} of {name} is {_shown(value)}, or not finite'
                    return
                kinds.setdefault(key, Counter())[_kind(value, weight)] += weight.numel() > 1
        yield from self._unlike_the_others(saved, kinds)
        lacking = [name for i, (name, _) in enumerate(self.parameters) if not saved.get(i)]
        if saved and lacking:
            self.runner.logger.warning(
                f'the optimizer has no state for {len(lacking)} of {len(self.parameters)} parameters, such '
                f'as {lacking[0]}, as if no gradient had reached them; it begins anew there'
            )
        remembers = any(
            group.get('betas') or group.get('momentum')
            for group in self.wrapper.optimizer.param_groups
        )
        if not saved and remembers:
            yield 'it has no state'

    def _unlike_the_others(self, saved: dict, kinds: Mapping[Any, Counter]) -> Iterator[str]:
        """A value has the same kind for every parameter, and no parameter has values that no other has."""
        for number, entry in saved.items():
            name, weight = self.parameters[number]
            for key, value in entry.items():
                common = kinds[key].most_common(1)[0][0]
                if weight.numel() > 1 and _kind(value, weight) != common:
                    yield f'{key} of {name} is {_shown(value)}'
        alone = Counter(frozenset(entry) for entry in saved.values())
        for number, entry in saved.items():
            if alone[frozenset(entry)] == 1 and len(saved) >= _MANY:
                yield f'{self.parameters[number][0]} has {", ".join(map(str, entry))}, and no other has'


def _kind(value: Any, weight: Tensor) -> tuple:
    """What a value of an optimizer's state has in common with the same value of other parameters."""
    if not isinstance(value, Tensor):
        return (
            bool
            if isinstance(value, bool)
            else Number
            if isinstance(value, Number)
            else type(value),
        )
    dtype = value.dtype if value.dtype != weight.dtype else 'its'
    if value.shape == weight.shape:
        return 'its', dtype, value.is_floating_point()
    if value.dim() == 0:
        return 'a number', value.dtype
    sizes = iter(weight.shape)  # a mean over some of its dimensions has the others, in order
    is_mean = all(size in sizes for size in value.shape)
    return weight.dim() - value.dim() if is_mean else value.shape, value.dtype


def _scheduler_problems(own: Any, saved: Any) -> Iterator[str]:
    if not own:
        return
    own_lists = own if isinstance(own, dict) else {'': own}
    saved_lists = saved if isinstance(own, dict) else {'': saved}
    if not isinstance(saved_lists, dict) or own_lists.keys() != saved_lists.keys():
        yield 'it has not the schedulers of this run'
        return
    for name, schedulers in own_lists.items():
        states = saved_lists[name]
        if not isinstance(states, list) or len(states) != len(schedulers):
            yield f'it has not the {len(schedulers)} schedulers of this run'
            return
        for scheduler, state in zip(schedulers, states):
            kind = type(scheduler).__name__
            fresh = {k: v for k, v in scheduler.state_dict().items() if not callable(v)}
            state = (
                {k: v for k, v in state.items() if not callable(v)}
                if isinstance(state, dict)
                else {}
            )
            for key in {**fresh, **state}:
                value = state.get(key, _NOTHING)
                counts = not key.endswith('_step') or is_count(value) or value == -1
                if not counts or not _is_alike(fresh.get(key, _NOTHING), value):
                    yield f'scheduler {kind}: {key} is {_shown(value)}'


def _hub_problems(hub: Mapping[str, Any]) -> Iterator[str]:
    parts = [hub.get(key) for key in ('log_scalars', 'runtime_info', 'resumed_keys')]
    if not all(isinstance(part, dict) for part in parts):
        yield 'message_hub has not log_scalars, runtime_info and resumed_keys'
        return
    scalars, infos, resumed = parts
    # the text of the config is not read
    held, kept = (
        {*names} - {'cfg', 'config'}
        for names in ({**scalars, **infos}, filter(resumed.get, resumed))
    )
    if held != kept or not all(isinstance(value, bool) for value in resumed.values()):
        yield 'message_hub.resumed_keys are not those of what it holds'
    for name, curve in scalars.items():
        if not isinstance(name, str) or not _is_curve(curve):
            yield f'message_hub.log_scalars.{name} is no curve of numbers'
    for name, value in infos.items():
        stem = next((known for known in _INFO if str(name).startswith(known)), None)
        fits = stem is None or (isinstance(value, _INFO[stem]) and _is_plain(value, finite=True))
        if stem == 'keep_ckpt_ids':
            fits = fits and all(is_count(number) for number in value)
        if not fits or not isinstance(name, str) or not _is_plain(value):
            yield f'message_hub.runtime_info.{name} is {_shown(value)}'


def _is_curve(value: Any) -> bool:
    if isinstance(value, HistoryBuffer):
        length, *arrays = map(vars(value).get, ('max_length', '_log_history', '_count_history'))
        if not vars(value).keys() == _HISTORY_PARTS or not all(
            isinstance(a, np.ndarray) for a in arrays
        ):
            return False
        arrays = [torch.as_tensor(a) if a.dtype.kind in 'fiu' else None for a in arrays]
    elif isinstance(value, dict) and value.keys() == {HISTORY, 'log', 'count'}:
        length, *arrays = (value[key] for key in (HISTORY, 'log', 'count'))
    else:
        return False
    return (
        is_count(length)
        and all(type(a) is Tensor and a.dim() == 1 and a.layout == torch.strided for a in arrays)
        and len(arrays[0]) == len(arrays[1])
        and not any(a.is_meta or a.is_complex() for a in arrays)
        and bool(arrays[1].isfinite().all())
    )


def _average_problems(model: nn.Module, saved: Any) -> Iterator[str]:
    steps = saved.get('steps') if isinstance(saved, dict) else None
    if (
        not isinstance(steps, Tensor)
        or unusable(steps)
        or steps.numel() != 1
        or not steps.item() >= 0
    ):
        yield 'ema_state_dict has no count of its steps'
        return
    rest = {'state_dict': {name: value for name, value in saved.items() if name != 'steps'}}
    differences = compare(model.state_dict(), get_state_dict(rest, 'ema_state_dict'))
    if differences:
        yield f'ema_state_dict: weights {differences.listed(3)}'


_NOTHING = object()


def _is_alike(own: Any, saved: Any) -> bool:
    """Whether a saved value could take the place of one that is there: of its kind, length and keys."""
    if own is _NOTHING or saved is _NOTHING:
        return False
    if own is None or (saved is None and isinstance(own, bool)):
        return _is_plain(saved, finite=True)
    if isinstance(own, (bool, str)):
        return type(saved) is type(own) and (isinstance(own, bool) or saved == own)
    if isinstance(own, (Number, np.generic)):
        if isinstance(saved, Tensor):
            return saved.numel() == 1 and _is_plain(saved, finite=True)
        return isinstance(saved, (Number, np.generic)) and _is_plain(
            saved, finite=True, bools=False
        )
    if isinstance(own, (list, tuple)):
        alike = isinstance(saved, (list, tuple)) and len(saved) == len(own)
        return alike and all(map(_is_alike, own, saved))
    if isinstance(own, Tensor):
        alike = isinstance(saved, (Tensor, Number)) and torch.as_tensor(saved).shape == own.shape
        return alike and _is_plain(saved, finite=True)
    kind = dict if isinstance(own, dict) else type(own)
    return isinstance(saved, kind) and _is_plain(saved, finite=True)


def _is_plain(value: Any, finite: bool = False, bools: bool = True) -> bool:
    """Whether it is made of numbers, strings, tensors and containers of them, and of nothing else."""
    if isinstance(value, dict):
        return all(_is_plain(item, finite, bools) for pair in value.items() for item in pair)
    if isinstance(value, (list, tuple, set)):
        return all(_is_plain(item, finite, bools) for item in value)
    if isinstance(value, np.ndarray):
        return value.dtype.kind in 'biufU' and _is_plain(value.tolist(), finite)
    if isinstance(value, Tensor):
        return not unusable(value) and not (finite and not value.isfinite().all())
    if isinstance(value, bool):
        return bools
    if isinstance(value, (int, float, np.bool_, np.integer, np.floating)):
        return not finite or math.isfinite(value)
    return value is None or isinstance(value, str)


def _shown(value: Any) -> str:
    if value is _NOTHING:
        return 'missing'
    if isinstance(value, Tensor):
        return f'a tensor of {str(value.dtype)[6:]} and shape {tuple(value.shape)}'
    return repr(value)[:40]
