"""What a training or an evaluation would wait for without end, or leave out, by its config alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.config import Config
from mmengine.optim import scheduler as schedulers

from ..errors import UserError
from ..utils.blame import nodes, type_name

# samplers of mmengine and mmdet that begin anew for ever
_ENDLESS = ('InfiniteSampler', 'MultiSourceSampler', 'GroupMultiSourceSampler')


def check_run(cfg: Config, splits: Sequence[str]) -> None:
    """Raise UserError for the first fault of what runs on some of 'train', 'val' and 'test'."""
    for split in splits:
        _check_pass(cfg, split)
    if 'train' in splits:
        _check_counting(cfg)
        _check_begins(cfg)
        _check_names(cfg)


def _check_pass(cfg: Config, split: str) -> None:
    """A pass over the data of a split ends, and an evaluation leaves nothing out."""
    loader = cfg.get(f'{split}_dataloader') or {}
    if split != 'train' and loader.get('drop_last') and loader.get('batch_size', 1) > 1:
        raise UserError(
            f'config {cfg.filename}: {split}_dataloader.drop_last=True leaves images of an incomplete '
            'batch out of the evaluation; set it to False'
        )
    sampler = type_name(loader.get('sampler'))
    if sampler in _ENDLESS and (split != 'train' or _counted(cfg) == 'epochs'):
        advice = ', or train_cfg.by_epoch=False with max_iters' if split == 'train' else ''
        raise UserError(
            f'config {cfg.filename}: {split}_dataloader.sampler: {sampler} never ends, and so the first '
            f'pass over the data does not; take DefaultSampler{advice}'
        )


def _counted(cfg: Config) -> str | None:
    """What a training loop of mmengine counts, epochs or iters; None for any other loop."""
    loop = cfg.get('train_cfg') or {}
    if type_name(loop):
        known = {'EpochBasedTrainLoop': 'epochs', 'IterBasedTrainLoop': 'iters'}
        return known.get(type_name(loop))
    return 'epochs' if loop.get('by_epoch', True) else 'iters'


def _check_counting(cfg: Config) -> None:
    """Raise UserError for a schedule that waits for the end of an epoch in a run that is a single one."""
    if _counted(cfg) != 'iters':
        return
    for place, part in nodes(cfg._cfg_dict.get('param_scheduler'), 'param_scheduler'):
        if _is_known(part) and part.get('by_epoch', True) and not _goes_by_itself(part):
            raise UserError(
                f'config {cfg.filename}: {place}: it counts epochs, and train_cfg iterations, so it would do '
                f'nothing before the run ends; set {place}.by_epoch=False, and count iterations there'
            )


def _is_known(part: Any) -> bool:
    """Whether this is a schedule of mmengine, which counts epochs unless it is told otherwise."""
    return hasattr(schedulers, type_name(part) or ' ')


def _goes_by_itself(schedule: dict[str, Any]) -> bool:
    """Whether a schedule that counts epochs needs no end of one."""
    is_converted = schedule.get('convert_to_iter_based', False)
    return is_converted or type_name(schedule).startswith('ReduceOnPlateau')


def _checkpoint_hook(cfg: Config) -> dict[str, Any]:
    """What is said of mmengine's CheckpointHook; {} if nothing is, and it saves at the end."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint')
    return hook if type_name(hook) == 'CheckpointHook' else {}


def _check_begins(cfg: Config) -> None:
    """Raise UserError if the run ends before what waits for an evaluation gets one, or anything is saved."""
    loop, unit, hook = cfg.get('train_cfg') or {}, _counted(cfg), _checkpoint_hook(cfg)
    end = loop.get(f'max_{unit}')
    if end is None:
        return
    begins = {}
    waiting = _waits_for_evaluations(cfg)
    if waiting and cfg.get('val_cfg') is not None:  # without, it is a way to evaluate nothing
        begins['train_cfg.val_begin'] = loop.get('val_begin', 1), f'evaluated for {waiting}'
    saves = hook.get('save_last', True) or hook.get('save_best')
    if not saves and hook.get('by_epoch', True) == (unit == 'epochs'):
        begins['default_hooks.checkpoint.save_begin'] = hook.get('save_begin', 0), 'saved'
    for place, (begin, what) in begins.items():
        if begin > end:
            raise UserError(
                f'config {cfg.filename}: {place}={begin} is beyond train_cfg.max_{unit}={end}: nothing '
                f'would be {what}; set it to {end} or less'
            )


def _waits_for_evaluations(cfg: Config) -> str | None:
    """The first part that follows the evaluations of a run; None if there is none."""
    if _checkpoint_hook(cfg).get('save_best'):
        return 'default_hooks.checkpoint.save_best'
    kinds = ('EarlyStoppingHook', 'ReduceOnPlateau')
    for key in ('default_hooks', 'custom_hooks', 'param_scheduler'):
        for place, part in nodes(cfg._cfg_dict.get(key), key):
            if type_name(part).startswith(kinds):
                return place
    return None


def _check_names(cfg: Config) -> None:
    """Raise UserError if a checkpoint would take the name of another, or could get none."""
    for key in ('default_hooks', 'custom_hooks'):
        for place, hook in nodes(cfg._cfg_dict.get(key), key):
            name = hook.get('filename_tmpl') if type_name(hook) == 'CheckpointHook' else None
            if name is not None and not _is_numbered(name):
                raise UserError(
                    f'config {cfg.filename}: expected {place}.filename_tmpl to be a name with one {{}} for '
                    f'the number of the checkpoint, such as epoch_{{}}.pth, got {name!r}'
                )


def _is_numbered(value: Any) -> bool:
    """Whether this makes another name for each number, and can make them at all."""
    try:
        return value.format(1) != value.format(2)
    except Exception:  # of anything that can stand in braces
        return False
