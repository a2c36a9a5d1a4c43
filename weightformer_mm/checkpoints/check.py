"""Does a checkpoint belong to this model? mmengine would only warn and go on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner.checkpoint import load_state_dict
from torch import Tensor, nn

from ..errors import UserError
from .differences import Differences, compare, misfit, unusable

_SHOWN = 3


def get_state_dict(
    checkpoint: dict[str, Any], path: str | os.PathLike, containers: Sequence[str] = ('state_dict',)
) -> dict[str, Tensor]:
    """The model's weights in a checkpoint, under the names of the unwrapped model.

    Args:
        containers: keys that they may stand under, the first one there counts; else the checkpoint is they.

    Raises:
        UserError: there are none, or some that no model could take.
    """
    found = [checkpoint[key] for key in containers if key in checkpoint]
    state_dict = found[0] if found else checkpoint
    weights = {}
    if isinstance(state_dict, dict):
        named = (item for item in state_dict.items() if isinstance(item[0], str))
        weights = {k: v for k, v in named if isinstance(v, Tensor)}
    if not weights or len(weights) != len(state_dict):
        keys = ', '.join(map(str, list(checkpoint)[:_SHOWN])) or 'nothing'
        raise UserError(
            f'{path} holds no weights of a model (no {" or ".join(containers)}; it has {keys})'
        )
    odd = ((name, unusable(tensor)) for name, tensor in weights.items())
    odd = [f'{name} ({why})' for name, why in odd if why]
    if odd:
        raise UserError(f'{path} holds weights that no model can take: {_some(odd)}')
    return _without_wrapper(weights, path)


def _without_wrapper(weights: dict[str, Tensor], path: str | os.PathLike) -> dict[str, Tensor]:
    """The names without what a wrapper for distributed training puts before each of them."""
    prefix = 'module.'
    wrapped = [name for name in weights if name.startswith(prefix)]
    if not wrapped:
        return weights
    if len(wrapped) < len(weights):
        others = [name for name in weights if name not in wrapped]
        raise UserError(
            f'{path} is damaged: {_some(wrapped)} begin with {prefix}, {_some(others)} do not'
        )
    return {name[len(prefix) :]: tensor for name, tensor in weights.items()}


def check_matches(model: nn.Module, checkpoint: dict[str, Any], path: str | os.PathLike) -> None:
    """Raise UserError unless the checkpoint has exactly the weights of ``model``."""
    model = unwrapped(model)
    found = get_state_dict(checkpoint, path)
    wanted = model.state_dict()
    counters = [name for name in wanted if is_counter(name) and name not in found]
    differences = compare(wanted, found, counters)
    if not differences:
        return
    if converts(model, differences):
        return
    raise UserError(
        f'{path} is a checkpoint of another model{_origin(checkpoint)}: '
        f'weights {differences.listed(_SHOWN)}. Give the config that it was trained with, '
        'or train from it with load_from'
    )


def check_resumable(checkpoint: dict[str, Any], path: Path) -> None:
    """Raise UserError unless the checkpoint holds the state of a run and not weights alone."""
    parts = {key: checkpoint.get(key) for key in ('meta', 'message_hub', 'optimizer')}
    missing = [key for key, part in parts.items() if not isinstance(part, dict)]
    meta = checkpoint['meta'] if 'meta' not in missing else {'epoch': 0, 'iter': 0}
    missing += [key for key in ('epoch', 'iter') if key not in meta]
    if missing:
        raise UserError(
            f'--resume {path}: it holds weights but not the state of a run ({", ".join(missing)} missing); '
            f'to start from these weights: --cfg-options load_from={path}'
        )
    for key in ('epoch', 'iter', 'seed'):
        value = meta.get(key)
        if not (is_count(value) and value < 2**32) and not (key == 'seed' and value is None):
            raise UserError(f'--resume {path} is damaged: meta.{key} is {str(value)[:40]!r}')


def is_count(value: Any) -> bool:
    """Whether it is a whole number >= 0."""
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= 0


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside wrappers for distributed training and test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def is_counter(name: str) -> bool:
    """Whether it counts batches for normalisation; old checkpoints lack it, and mmengine allows that."""
    return name.endswith('num_batches_tracked')


def converts(model: nn.Module, differences: Differences) -> bool:
    """Whether loading works all the same: some modules rename the keys of older checkpoints as they load."""
    wanted, found = differences.wanted, differences.found
    renamed = [found[name] for name in differences.unexpected]
    lacking = [tensor for name, tensor in wanted.items() if name not in found]
    for tensor in renamed if lacking else ():
        alike = [one for one in lacking if one.shape == tensor.shape] or lacking
        if all(misfit(one, tensor) for one in alike):
            return False
    if differences.misfits:
        return False
    try:
        load_state_dict(model, dict(found), strict=True)
    except RuntimeError:
        return False
    return True


def _some(names: Sequence[str]) -> str:
    more = f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''
    return ', '.join(names[:_SHOWN]) + more


def _origin(checkpoint: dict[str, Any]) -> str:
    meta = checkpoint.get('meta')
    name = meta.get('experiment_name') if isinstance(meta, dict) else None
    return f' (of the run {name})' if name else ''
