"""``--data-root DIR``: the data of a config lie elsewhere."""

from __future__ import annotations

import os
import shlex
from typing import Any

from mmengine.config import Config

from ..errors import UserError

# a path in these is no path of the data set, even where it begins alike
_NOT_DATA = ('load_from', 'model', 'work_dir')


def use_data_root(cfg: Config, root: str | os.PathLike) -> None:
    """Replace the config's top-level ``data_root`` wherever a path begins with it.

    Data loaders (whatever wraps their data sets), evaluators and pipelines, and what else the config holds
    apart from the model, all take the new root; a path that begins otherwise stays. ``prepare_data``, the
    command that makes the data, names the new root too.

    Raises:
        UserError: the config has no ``data_root`` at its top level, or no data loader uses it.
    """
    old = cfg.get('data_root')
    if not isinstance(old, str) or not old:
        raise UserError(
            f'--data-root: {cfg.filename} has no data_root at its top level that could be replaced; '
            'set the paths of its data loaders and evaluators with --cfg-options'
        )
    move = _Move(old.rstrip('/'), os.path.expanduser(os.fspath(root)).rstrip('/'))
    found = 0
    for key in [key for key in cfg if key not in _NOT_DATA and key != 'prepare_data']:
        before = move.count
        cfg[key] = move.below(cfg[key])
        found += (move.count - before) if key.endswith('_dataloader') else 0
    if not found:
        raise UserError(
            f'--data-root: no data loader of {cfg.filename} has a path that begins with its data_root, {old}'
        )
    if isinstance(cfg.get('prepare_data'), str):
        cfg.prepare_data = shlex.join(move.path(word) for word in shlex.split(cfg.prepare_data))


class _Move:
    """Paths of one root moved to another; ``count`` says how many were."""

    def __init__(self, old: str, new: str) -> None:
        self.old, self.new, self.count = old, new, 0
        self._seen: dict[int, Any] = {}  # a part that stands in two places is moved once

    def below(self, node: Any) -> Any:
        """``node`` with its paths moved: dicts and lists in place, tuples and strings anew."""
        if isinstance(node, str):
            return self.path(node)
        if isinstance(node, tuple):
            return tuple(self.below(item) for item in node)
        if isinstance(node, (dict, list)) and id(node) not in self._seen:
            self._seen[id(node)] = node
            for key in list(node) if isinstance(node, dict) else range(len(node)):
                node[key] = self.below(node[key])
        return node

    def path(self, text: str) -> str:
        if text != self.old and not text.startswith(f'{self.old}/'):
            return text
        self.count += 1
        return self.new + text[len(self.old) :]
