"""What the keys of a config may hold that mmengine's runner reads: it checks few of them, and late."""

from __future__ import annotations

from difflib import get_close_matches
from fnmatch import fnmatchcase
from numbers import Real
from typing import Any

from mmengine.config import Config

from ..arguments import COUNT, FLAG, NAME, Rule, integer, is_integer, one_of, optional
from ..errors import UserError
from ..utils.blame import nodes

_SPLITS = ('train', 'val', 'test')
_TRIOS = {'train': 'optim_wrapper', 'val': 'val_evaluator', 'test': 'test_evaluator'}


def _are_parts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(one, dict) for one in value)


def _is_share(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and value >= 0


def _are_indices(value: Any) -> bool:
    several = value if isinstance(value, (list, tuple)) else [value]
    return all(map(is_integer, several)) and value != 0 and len(several) > 0


def _is_priority(value: Any) -> bool:
    value = getattr(value, 'name', value)  # mmengine's own constants
    if isinstance(value, str):
        return value.upper() in _PRIORITIES
    return is_integer(value) and 0 <= value <= 100


def _of_keys(*keys: str) -> Rule:
    """Dicts of which the libraries read these keys, and ignore others or fail without naming the dict."""
    return Rule(
        f'{{}} to be a dict of {", ".join(keys)}',
        lambda value: isinstance(value, dict) and value.keys() <= {*keys},
    )


def _with_keys(*keys: str) -> Rule:
    """Dicts of which the libraries read these keys, and somebody else's code may read others."""

    def fits(value: Any) -> bool:
        others = map(str, value.keys() - {*keys}) if isinstance(value, dict) else keys
        return not any(get_close_matches(other, keys, cutoff=0.8) for other in others)

    return Rule(f'{{}} to be a dict of {", ".join(keys)}, without a misspelt key', fits)


_PART = Rule('{} to be a dict', lambda value: isinstance(value, dict))
_PARTS = Rule('{} to be a list of dicts', _are_parts)
_ONE_OR_SEVERAL = Rule(
    '{} to be a dict or a list of dicts', lambda value: isinstance(value, dict) or _are_parts(value)
)
_INTEGER = Rule('{} to be an integer', is_integer)
_INTERVAL = Rule(
    'an integer {} of at least 1, or below 0 for never',
    lambda value: is_integer(value) and value != 0,
)
_SOME = Rule(
    '{} to be a dict or a list of one dict or more',
    lambda value: _ONE_OR_SEVERAL.fits(value) and len(value) > 0,
)
_PRIORITIES = (
    *('HIGHEST', 'VERY_HIGH', 'HIGH', 'ABOVE_NORMAL', 'NORMAL', 'BELOW_NORMAL', 'LOW', 'VERY_LOW'),
    'LOWEST',
)
_PRIORITY = Rule(
    f'{{}} to be an integer from 0 to 100 or one of {", ".join(_PRIORITIES)}', _is_priority
)
_PATH = Rule('{} to be a path', lambda value: isinstance(value, str))
_DEFAULT = 'DefaultOptimWrapperConstructor'
_PARAMWISE = _of_keys(
    *('bias_decay_mult', 'bias_lr_mult', 'bypass_duplicate', 'custom_keys', 'dcn_offset_lr_mult'),
    *('dwconv_decay_mult', 'flat_decay_mult', 'norm_decay_mult'),
)
_FACTORS = _with_keys('decay_mult', 'lr_mult')
_LEVELS = ('CRITICAL', 'ERROR', 'WARNING', 'INFO', 'DEBUG', 'NOTSET')

# shell patterns of places; the first that matches counts
RULES = {
    'model': optional(_PART),
    'model.test_cfg': optional(_PART),
    '*_dataloader': optional(_PART),
    '*_dataloader.batch_size': COUNT,
    '*_dataloader.num_workers': integer(0),
    '*_dataloader.prefetch_factor': optional(COUNT),
    '*_dataloader.persistent_workers': FLAG,
    '*_dataloader.pin_memory': FLAG,
    '*_dataloader.drop_last': FLAG,
    '*_dataloader.num_batch_per_epoch': optional(COUNT),
    '*_dataloader.sampler': optional(_PART),
    '*_dataloader.sampler.shuffle': FLAG,
    '*_dataloader.sampler.round_up': FLAG,
    '*_evaluator': optional(_SOME),
    '*_evaluator.metrics': _ONE_OR_SEVERAL,
    'train_cfg': optional(_PART),
    'val_cfg': optional(_PART),
    'test_cfg': optional(_PART),
    'train_cfg.max_epochs': COUNT,
    'train_cfg.max_iters': COUNT,
    'train_cfg.val_begin': integer(0),
    'train_cfg.val_interval': COUNT,
    'optim_wrapper': optional(_PART),
    'optim_wrapper.optimizer': _PART,
    'optim_wrapper.accumulative_counts': COUNT,
    'optim_wrapper.clip_grad': optional(_PART),
    'optim_wrapper.paramwise_cfg': optional(_PART),
    'optim_wrapper.paramwise_cfg.custom_keys': optional(_PART),
    'param_scheduler': optional(_ONE_OR_SEVERAL),
    'auto_scale_lr': optional(_of_keys('base_batch_size', 'enable')),
    'auto_scale_lr.base_batch_size': COUNT,
    'auto_scale_lr.enable': FLAG,
    'default_hooks': optional(_PART),
    'default_hooks.*': optional(_PART),
    'default_hooks.*.interval': _INTERVAL,
    'custom_hooks.*.interval': _INTERVAL,
    'default_hooks.checkpoint.save_begin': integer(0),
    'default_hooks.checkpoint.save_last': FLAG,
    'custom_hooks': optional(_PARTS),
    'default_hooks.*.priority': optional(_PRIORITY),
    'custom_hooks.*.priority': optional(_PRIORITY),
    'custom_imports': optional(_PART),
    'randomness': _of_keys('deterministic', 'diff_rank_seed', 'seed'),
    'randomness.seed': optional(integer(0, 2**32 - 1)),
    'randomness.deterministic': FLAG,
    'randomness.diff_rank_seed': FLAG,
    'env_cfg': _PART,
    'env_cfg.mp_cfg': _PART,
    'env_cfg.mp_cfg.mp_start_method': one_of('fork', 'forkserver', 'spawn'),
    'env_cfg.mp_cfg.opencv_num_threads': _INTEGER,
    'env_cfg.resource_limit': COUNT,
    'env_cfg.dist_cfg': _PART,
    'visualizer': optional(_PART),
    'visualizer.vis_backends': optional(_PARTS),
    'log_processor': optional(_PART),
    'log_processor.window_size': COUNT,
    'sync_bn': optional(one_of('torch', 'mmcv')),
    'log_level': one_of(*_LEVELS),
    'default_scope': optional(NAME),
    'work_dir': optional(NAME),
    'launcher': one_of('none', 'pytorch', 'slurm', 'mpi'),
    'resume': FLAG,
    'exact_resume': FLAG,
    'check_classes': FLAG,
    'find_unused_parameters': FLAG,
}
# by the last keys, wherever they are below a data loader: of data sets and of their wrappers
_OF_DATA = {
    'dataset': _PART,
    'datasets': Rule(
        '{} to be a list of one or more dicts', lambda v: _are_parts(v) and len(v) > 0
    ),
    'filter_cfg': optional(_with_keys('bbox_min_size', 'filter_empty_gt', 'min_size')),
    'filter_cfg.filter_empty_gt': FLAG,
    'filter_cfg.min_size': integer(0),
    'indices': optional(Rule('{} to be an integer or a list of integers', _are_indices)),
    'oversample_thr': Rule('a number {} of at least 0', _is_share),
    'pipeline': _PARTS,
    'times': COUNT,
}
# mmcv calls eval() on the type of a non-maximum suppression, mmdet's trackers on the mode of their warp
SUPPRESSIONS = ('nms', 'soft_nms', 'nms_match', 'nms_rotated', 'nms_quadri')
_SUPPRESSION = Rule(
    f'{{}} to be one of {", ".join(SUPPRESSIONS)}',
    lambda value: callable(value) or one_of(*SUPPRESSIONS).fits(value),
)
_WARPS = tuple(
    f'cv2.MOTION_{kind}' for kind in ('TRANSLATION', 'EUCLIDEAN', 'AFFINE', 'HOMOGRAPHY')
)
# by the last keys, wherever they are
_ANYWHERE = {
    'ann_file': optional(_PATH),
    'by_epoch': FLAG,
    'convert_to_iter_based': FLAG,
    'cudnn_benchmark': FLAG,
    'data_prefix': optional(
        Rule('{} to be a dict or a path', lambda v: isinstance(v, (dict, str)))
    ),
    'data_root': optional(_PATH),
    'init_cfg': optional(_ONE_OR_SEVERAL),
    **{f'{key}.type': _SUPPRESSION for key in ('nms', 'nms_cfg', 'dqs_cfg')},
    'warp_mode': one_of(*_WARPS),
}


def check_values(cfg: Config) -> None:
    """Raise UserError for the first value of the wrong kind, and for a split of which a part is missing."""
    for place, value in nodes(cfg._cfg_dict, ''):
        rule = next((RULES[pattern] for pattern in RULES if _matches(place, pattern)), None)
        if rule is None and place.partition('.')[0].endswith('_dataloader'):
            rule = _by_end(_OF_DATA, place)
        rule = rule or _by_end(_ANYWHERE, place)
        if rule is not None:
            _check(cfg, rule, place, value)
    for split in _SPLITS:
        _check_split(cfg, split)
    wrapper = cfg.get('optim_wrapper') or {}
    if wrapper.get('paramwise_cfg') and wrapper.get('constructor') in (None, _DEFAULT):
        place = 'optim_wrapper.paramwise_cfg'
        _check(cfg, _PARAMWISE, place, wrapper.paramwise_cfg)
        for key, factors in (wrapper.paramwise_cfg.get('custom_keys') or {}).items():
            _check(cfg, _FACTORS, f'{place}.custom_keys.{key}', factors)


def _check_split(cfg: Config, split: str) -> None:
    parts = [f'{split}_dataloader', f'{split}_cfg', _TRIOS[split]]
    lacking = [part for part in parts if part in cfg and cfg[part] is None]
    given = [part for part in parts if cfg.get(part) is not None]
    if lacking and given and split != 'train':
        raise UserError(
            f'config {cfg.filename}: {", ".join(lacking)} is None, but {" and ".join(given)} is not; '
            f'without evaluation on this split, set all of {", ".join(parts)} to None'
        )
    loader = cfg.get(f'{split}_dataloader') or {}
    if loader.get('prefetch_factor') is not None and not loader.get('num_workers'):
        raise UserError(
            f'config {cfg.filename}: {split}_dataloader.prefetch_factor={loader.prefetch_factor} needs '
            'num_workers of at least 1'
        )


def _check(cfg: Config, rule: Rule, place: str, value: Any) -> None:
    try:
        rule.check(place, value)
    except UserError as error:
        raise UserError(f'config {cfg.filename}: {error}') from error


def _by_end(rules: dict[str, Rule], place: str) -> Rule | None:
    """The first of the rules whose keys are the last ones of a place."""
    return next((rule for end, rule in rules.items() if f'.{place}'.endswith(f'.{end}')), None)


def _matches(place: str, pattern: str) -> bool:
    """Whether a pattern fits, with as many keys as the place has."""
    return place.count('.') == pattern.count('.') and fnmatchcase(place, pattern)
