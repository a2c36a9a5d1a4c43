"""Does the run state in a checkpoint fit this run? torch and mmengine would accept any and go on."""

from __future__ import annotations

import copy
import itertools
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from numbers import Number
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch import Tensor, nn

from ...checkpoints.match import compare, get_state_dict, plain_name, unusable, unwrapped
from ...errors import UserError
from ...utils.blame import described
from ..hooks.training import from_plain, to_plain
from ..work_folder import check_resumable, is_count
from .schedule import Schedule, changes

_MANY = 8  # among this many parameters, none should have state that no other has
_MISSING = object()
# options of optimizers that change how a step is computed, not what it is
_OF_SPEED = ('foreach', 'fused', 'capturable', 'differentiable')
# what mmengine's CheckpointHook relies on; `KeepingCheckpointHook` looks at the paths
_INFO = {'best_ckpt': str, 'last_ckpt': str, 'best_score': Number, 'keep_ckpt_ids': list}


class CheckRunStateHook(Hook):
    """Raise UserError, before anything is loaded, if the run state does not come from a run like this."""

    priority = 'HIGHEST'

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = path
        self.schedule: Schedule | None = None  # this run's, if it is another

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        check_resumable(checkpoint, self.path)
        plain = to_plain(checkpoint)
        try:
            problem = next(_problems(runner, plain), None)
        except Exception as error:  # something of a kind that nobody thought of
            raise UserError(f'--resume {self.path} is damaged: {described(error)}') from error
        if problem:
            raise UserError(
                f'--resume {self.path}: {problem}; the file is damaged, or of a run with another config. To '
                f'start from its weights alone: --cfg-options load_from={self.path}'
            )
        loop, epoch = runner.train_loop, plain['meta']['epoch']
        if isinstance(loop, EpochBasedTrainLoop) and epoch == loop.max_epochs:
            runner.logger.info(
                f'This run is finished: {self.path} stands at its end, epoch {epoch}'
            )
        if isinstance(runner.param_schedulers, list) and runner.param_schedulers:
            found = list(changes(runner.param_schedulers, plain['param_schedulers']))
            self.schedule = Schedule(runner, found) if found else None


def _problems(runner: Any, checkpoint: dict[str, Any]) -> Iterator[str]:
    """What does not fit. The caller stops at the first: the code after a ``yield`` relies on no problem."""
    loop, meta = runner.train_loop, checkpoint['meta']
    for kind, key in ((EpochBasedTrainLoop, 'epoch'), (IterBasedTrainLoop, 'iter')):
        end = getattr(loop, f'max_{key}s', math.inf)
        if isinstance(loop, kind) and meta[key] > end:
            yield f'it stands at {key} {meta[key]}, and this run ends at {end}'
    if isinstance(loop, EpochBasedTrainLoop):
        yield from _position_problems(meta['epoch'], meta['iter'], len(loop.dataloader))
    # a run with several optimizers is left to mmengine
    own, saved = runner.param_schedulers, checkpoint.get('param_schedulers')
    if isinstance(own, list) and own:
        if not isinstance(saved, list) or len(saved) != len(own):
            yield f'it does not have the {len(own)} schedulers of this run'
    if isinstance(runner.optim_wrapper, OptimWrapper):
        weights = get_state_dict(checkpoint, 'state_dict')
        for problem in _optimizer_problems(runner, checkpoint['optimizer'], weights):
            yield f'optimizer: {problem}'
    if isinstance(own, list) and own:
        for scheduler, state in zip(own, saved):
            what = f'scheduler {type(scheduler).__name__}'
            yield from _differences(what, scheduler.state_dict(), state)
    yield from _hub_problems(checkpoint['message_hub'])
    if 'ema_state_dict' in checkpoint:
        yield from _average_problems(unwrapped(runner.model), checkpoint['ema_state_dict'])


def _position_problems(epoch: int, iteration: int, length: int) -> Iterator[str]:
    """A loop over epochs begins each one anew, so a run cannot go on inside one."""
    inside = iteration - epoch * length
    if 0 < inside < length:
        yield (
            f'it stands inside epoch {epoch + 1}, after {inside} of its {length} iterations, and a run goes '
            'on at the end of an epoch; give such a checkpoint (default_hooks.checkpoint.by_epoch=True), or '
            "train by iterations (train_cfg.type='IterBasedTrainLoop')"
        )
    if inside == length:
        yield (
            f'it was written in the last iteration of epoch {epoch + 1}, before its end, or an epoch had '
            f'another length than the {length} iterations of this run; give a checkpoint of the end of an '
            'epoch (default_hooks.checkpoint.by_epoch=True), or set batch_size, the number of processes and '
            'the data set as they were'
        )
    if inside:
        yield (
            f'its {epoch} epochs had {iteration} iterations, and one of this run has {length}; set '
            'batch_size, the number of processes and the data set as they were'
        )


def _optimizer_problems(runner: Any, saved: dict, weights: Mapping[str, Tensor]) -> Iterator[str]:
    optimizer = runner.optim_wrapper.optimizer
    names = {p: plain_name(name) for name, p in unwrapped(runner.model).named_parameters()}
    parameters = [p for group in optimizer.param_groups for p in group['params']]
    # a sharded model has only parts of them; the checkpoint holds them whole
    named = [(names.get(p, '?'), weights.get(names.get(p), p)) for p in parameters]
    rest = dict(saved)
    state, groups = rest.pop('state', None), rest.pop('param_groups', None)
    if not isinstance(state, dict) or not isinstance(groups, list):
        yield 'it has no state and param_groups'
    if not _is_plain(rest, finite=True):
        yield f'{", ".join(map(str, rest))} hold something other than finite numbers'
    yield from _group_problems(optimizer, groups)
    yield from _state_problems(state, named)
    if not state and any(g.get('betas') or g.get('momentum') for g in optimizer.param_groups):
        yield 'it has no state'
    lacking = [name for number, (name, _) in enumerate(named) if not state.get(number)]
    if state and lacking:
        runner.logger.warning(
            f'The optimizer has no state for {len(lacking)} of {len(named)} parameters, such as {lacking[0]}'
        )


def _group_problems(optimizer: Any, saved: list) -> Iterator[str]:
    if len(saved) != len(optimizer.param_groups):
        yield (
            f'{len(saved)} groups of parameters instead of {len(optimizer.param_groups)}; groups follow '
            'frozen_stages and optim_wrapper.paramwise_cfg'
        )
    numbers = itertools.count()
    for index, (own, group) in enumerate(zip(optimizer.param_groups, saved)):
        wanted = list(itertools.islice(numbers, len(own['params'])))
        if not isinstance(group, dict) or group.get('params') != wanted:
            yield f'group {index} is not of its {len(wanted)} parameters'
    # an optimizer fills in options that only its later versions have; then all saved groups lack them
    known = set().union(*saved)
    filled = copy.copy(optimizer)
    filled.__setstate__({'state': {}, 'param_groups': [dict(group) for group in saved]})
    for index, (own, group) in enumerate(zip(optimizer.param_groups, filled.param_groups)):
        added = {key: value for key, value in group.items() if key not in known}
        group = {**added, **saved[index], 'params': []}
        yield from _differences(f'group {index}', {**own, 'params': []}, group)
        for key, value in own.items():  # nothing but a schedule changes them
            if f'initial_{key}' in own or (key == 'betas' and 'initial_momentum' in own):
                continue
            is_other = _numbers(value) and _numbers(value) != _numbers(group[key])
            is_flag = isinstance(value, bool) and isinstance(group[key], bool)
            if is_other or (is_flag and key not in _OF_SPEED and value != group[key]):
                name = key.removeprefix('initial_')
                yield f'group {index}: {name} is {_shown(group[key])}, and {_shown(value)} in this run'


def _numbers(value: Any) -> list[float]:
    """A number, or several, as a list; nothing for anything else."""
    values = value if isinstance(value, (list, tuple)) else [value]
    plain = all(isinstance(one, Number) and not isinstance(one, bool) for one in values)
    return [float(one) for one in values] if plain else []


def _state_problems(saved: dict, parameters: list[tuple[str, Tensor]]) -> Iterator[str]:
    """Values that are not finite, not of the kind of most parameters, or that only one parameter has."""
    odd = [number for number in saved if not is_count(number) or number >= len(parameters)]
    if odd or not all(isinstance(entry, dict) for entry in saved.values()):
        yield f'it has state of {len(odd)} parameters that the model does not have'
    kinds: dict[str, Counter] = {}
    for number, entry in saved.items():
        name, weight = parameters[number]
        for key, value in entry.items():
            is_step = key == 'step'
            fits = _is_alike(0, value) if is_step else _is_plain(value, finite=True)
            if not fits or (is_step and float(value) < 0):
                yield f'{key} of {name} is {_shown(value)}, or not finite'
            kinds.setdefault(key, Counter())[_kind(value, weight)] += weight.numel() > 1
    alone = Counter(frozenset(entry) for entry in saved.values())
    for number, entry in saved.items():
        name, weight = parameters[number]
        for key, value in entry.items():
            if weight.numel() > 1 and _kind(value, weight) != kinds[key].most_common(1)[0][0]:
                yield f'{key} of {name} is {_shown(value)}'
        if alone[frozenset(entry)] == 1 and len(saved) >= _MANY:
            yield f'{name} has {", ".join(map(str, entry))}, which no other parameter has'


def _kind(value: Any, weight: Tensor) -> Any:
    """What a value in a parameter's state should have in common with the same value of other parameters."""
    if not isinstance(value, Tensor):
        is_number = isinstance(value, Number) and not isinstance(value, bool)
        return Number if is_number else type(value)
    dtype = value.dtype if value.dtype != weight.dtype else 'its'
    if value.shape == weight.shape or value.dim() == 0:
        return value.dim() > 0, dtype
    sizes = iter(weight.shape)  # a mean over some of its dimensions keeps the others, in order
    is_mean = all(size in sizes for size in value.shape)
    return weight.dim() - value.dim() if is_mean else value.shape, dtype


def _differences(what: str, own: dict, saved: Any) -> Iterator[str]:
    """Saved values, apart from functions, that could not replace the values in ``own``."""
    saved = saved if isinstance(saved, dict) else {}
    for key in {**own, **saved}:
        mine, value = own.get(key, _MISSING), saved.get(key, _MISSING)
        if callable(mine) or callable(value):
            continue
        counts = key not in ('last_step', '_global_step') or is_count(value) or value == -1
        if not counts or not _is_alike(mine, value):
            yield f'{what}: {key} is {_shown(value)}'


def _hub_problems(hub: Mapping[str, Any]) -> Iterator[str]:
    parts = [hub.get(key) for key in ('log_scalars', 'runtime_info', 'resumed_keys')]
    if not all(isinstance(part, dict) for part in parts):
        yield 'message_hub does not have log_scalars, runtime_info and resumed_keys'
    scalars, infos, resumed = parts
    # the text of the config is not read
    kept = {name for name in resumed if resumed[name]} - {'cfg', 'config'}
    if {*scalars, *infos} - {'cfg', 'config'} != kept or {*map(type, resumed.values())} - {bool}:
        yield 'message_hub.resumed_keys are not those of what it holds'
    if not all(isinstance(name, str) for name in kept):
        yield 'message_hub holds something without a name'
    for name, curve in scalars.items():
        if not _is_curve(curve):
            yield f'message_hub.log_scalars.{name} is not a curve of numbers'
    for name, value in infos.items():
        kind = next((_INFO[known] for known in _INFO if name.startswith(known)), object)
        fits = isinstance(value, kind) and _is_plain(value, finite=kind is not object)
        if not fits or (name == 'keep_ckpt_ids' and not all(map(is_count, value))):
            yield f'message_hub.runtime_info.{name} is {_shown(value)}'


def _is_curve(value: Any) -> bool:
    try:
        curve = from_plain(value)
        length, (log, count) = curve.max_length, curve.data
        is_finite = bool(np.isfinite(count).all())
    except (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError):
        return False
    fits = log.ndim == 1 and log.shape == count.shape and log.dtype.kind in 'fiu'
    return fits and is_finite and is_count(length)


def _average_problems(model: nn.Module, saved: Any) -> Iterator[str]:
    steps = saved.get('steps') if isinstance(saved, dict) else None
    if not isinstance(steps, Tensor) or not _is_alike(0, steps) or steps.item() < 0:
        yield 'ema_state_dict has no count of its steps'
    rest = {'state_dict': {name: value for name, value in saved.items() if name != 'steps'}}
    differences = compare(model.state_dict(), get_state_dict(rest, 'ema_state_dict'))
    if differences:
        yield f'ema_state_dict: weights {differences.listed(3)}'


def _is_alike(own: Any, saved: Any) -> bool:
    """Whether a saved value could replace the run's own: the same kind, length and size, and finite."""
    if own is _MISSING or saved is _MISSING:
        return False
    if isinstance(own, (list, tuple)):
        is_list = isinstance(saved, (list, tuple)) and len(saved) == len(own)
        return is_list and all(map(_is_alike, own, saved))
    if isinstance(own, str):
        return saved == own
    if isinstance(own, bool):
        return saved is None or isinstance(saved, bool)
    if not _is_plain(saved, finite=True):
        return False
    if isinstance(own, (Number, np.generic, Tensor)):
        is_number = isinstance(saved, (Number, Tensor)) and not isinstance(saved, bool)
        return is_number and math.prod(np.shape(saved)) == math.prod(np.shape(own))
    return own is None or isinstance(saved, dict if isinstance(own, dict) else type(own))


def _is_plain(value: Any, finite: bool = False) -> bool:
    """Whether a value consists of numbers, strings, tensors and containers of these."""
    if isinstance(value, dict):
        return all(_is_plain(item, finite) for pair in value.items() for item in pair)
    if isinstance(value, (list, tuple, set)):
        return all(_is_plain(item, finite) for item in value)
    if isinstance(value, Tensor):
        return not unusable(value) and (not finite or bool(value.isfinite().all()))
    if isinstance(value, (int, float)):
        return not finite or math.isfinite(value)
    return value is None or isinstance(value, str)


def _shown(value: Any) -> str:
    if value is _MISSING:
        return 'missing'
    if isinstance(value, Tensor):
        return f'a tensor of {str(value.dtype)[6:]} and shape {tuple(value.shape)}'
    return repr(value)[:40]
