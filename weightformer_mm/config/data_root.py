"""``--data-root DIR``: the data of a config lie elsewhere.

mmengine's variables for configs (``{{$VAR:default}}``) cannot do this: the configs of mmdet and mmseg, and
the bases that come from there, hold their ``data_root`` as plain text.
"""

from __future__ import annotations

import os
import shlex
from typing import Any

from mmengine.config import Config, ConfigDict

from ..errors import UserError

# a path in these is no path of the data set, even where it begins alike; a command is made of words
_NOT_DATA = ('load_from', 'model', 'work_dir', 'prepare_data')


def use_data_root(cfg: Config, root: str | os.PathLike) -> None:
    """Replace the config's top-level ``data_root`` wherever a path begins with it.

    Data loaders, evaluators, pipelines and all else except the model take the new root; a path that begins
    otherwise stays. ``prepare_data``, the command that makes the data, names the new root too.

    Raises:
        UserError: the config has no ``data_root`` at its top level, or no data loader uses it.
    """
    old = cfg.get('data_root')
    if not isinstance(old, str) or not old:
        raise UserError(
            f'--data-root: {cfg.filename} has no data_root at its top level that could be replaced; '
            'set the paths of its data loaders and evaluators with --cfg-options'
        )
    old, new = old.rstrip('/'), os.path.expanduser(os.fspath(root)).rstrip('/')
    moved_keys = set()

    def moved(node: Any, key: str) -> Any:
        if isinstance(node, dict):
            return ConfigDict({name: moved(node[name], key) for name in node})
        if isinstance(node, (list, tuple)):
            return type(node)(moved(item, key) for item in node)
        if not isinstance(node, str) or not f'{node}/'.startswith(f'{old}/'):
            return node
        moved_keys.add(key)
        return new + node[len(old) :]

    for key in [key for key in cfg if key not in _NOT_DATA]:
        cfg[key] = moved(cfg[key], key)
    if not any(key.endswith('_dataloader') for key in moved_keys):
        raise UserError(
            f'--data-root: no data loader of {cfg.filename} has a path that begins with its data_root, {old}'
        )
    if isinstance(cfg.get('prepare_data'), str):
        words = shlex.split(cfg.prepare_data)
        cfg.prepare_data = shlex.join(moved(word, 'prepare_data') for word in words)
