"""Does a checkpoint belong to this model? mmengine would only warn and go on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner.checkpoint import load_state_dict
from torch import Tensor, nn

from ..checkpoints.differences import compare
from .errors import UserError

_SHOWN = 3


def get_state_dict(
    checkpoint: dict[str, Any], path: str | os.PathLike, containers: Sequence[str] = ('state_dict',)
) -> dict[str, Tensor]:
    """The model's weights in a checkpoint, under the names of the unwrapped model.

    Args:
        containers: keys that they may stand under, the first one there counts; else the checkpoint is they.

    Raises:
        UserError: there are none.
    """
    found = [checkpoint[key] for key in containers if key in checkpoint]
    state_dict = found[0] if found else checkpoint
    weights = {}
    if isinstance(state_dict, dict):
        weights = {k: v for k, v in state_dict.items() if isinstance(v, Tensor)}
    if not weights or len(weights) != len(state_dict):
        keys = ', '.join(map(str, list(checkpoint)[:_SHOWN])) or 'nothing'
        raise UserError(
            f'{path} holds no weights of a model (no {" or ".join(containers)}; it has {keys})'
        )
    prefix = 'module.'
    return {k[len(prefix) :] if k.startswith(prefix) else k: v for k, v in weights.items()}


def check_matches(model: nn.Module, checkpoint: dict[str, Any], path: str | os.PathLike) -> None:
    """Raise UserError unless the checkpoint has exactly the weights of ``model``."""
    model = unwrapped(model)
    found = get_state_dict(checkpoint, path)
    wanted = model.state_dict()
    counters = [name for name in wanted if is_counter(name)]
    differences = compare(wanted, found, counters)
    if not differences:
        return
    if converts(model, found):
        return
    raise UserError(
        f'{path} is a checkpoint of another model{_origin(checkpoint)}: '
        f'weights {differences.listed(_SHOWN)}. Give the config that it was trained with, '
        'or train from it with load_from'
    )


def check_resumable(checkpoint: dict[str, Any], path: Path) -> None:
    """Raise UserError unless the checkpoint holds the state of a run and not weights alone."""
    missing = [key for key in ('meta', 'message_hub', 'optimizer') if key not in checkpoint] + [
        key
        for key in ('epoch', 'iter')
        if key not in checkpoint.get('meta', {'epoch': 0, 'iter': 0})
    ]
    if missing:
        raise UserError(
            f'--resume {path}: it holds weights but not the state of a run ({", ".join(missing)} missing); '
            f'to start from these weights: --cfg-options load_from={path}'
        )


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside wrappers for distributed training and test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def is_counter(name: str) -> bool:
    """Whether it counts batches for normalisation; old checkpoints lack it, and mmengine allows that."""
    return name.endswith('num_batches_tracked')


def converts(model: nn.Module, state_dict: dict[str, Tensor]) -> bool:
    """Whether loading works all the same: some modules rename the keys of older checkpoints as they load."""
    try:
        load_state_dict(model, dict(state_dict), strict=True)
    except RuntimeError:
        return False
    return True


def _origin(checkpoint: dict[str, Any]) -> str:
    meta = checkpoint.get('meta')
    name = meta.get('experiment_name') if isinstance(meta, dict) else None
    return f' (of the run {name})' if name else ''
