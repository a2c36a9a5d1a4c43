"""Does a checkpoint hold the state of a run, or weights alone?"""

from __future__ import annotations

import os
from numbers import Integral
from typing import Any

from ..errors import UserError


def check_resumable(checkpoint: dict[str, Any], path: str | os.PathLike) -> None:
    """Raise UserError unless the checkpoint holds the state of a run, not only weights."""
    meta: Any = checkpoint.get('meta')
    parts = ('meta', 'message_hub', 'optimizer')
    missing = [key for key in parts if not isinstance(checkpoint.get(key), dict)]
    missing += [key for key in ('epoch', 'iter') if isinstance(meta, dict) and key not in meta]
    if missing:
        raise UserError(
            f'--resume {path}: it holds weights but not the state of a run ({", ".join(missing)} missing); '
            f'to start from these weights: --cfg-options load_from={path}'
        )
    for key in ('epoch', 'iter', 'seed'):
        value: Any = meta.get(key)
        if (key != 'seed' or value is not None) and not (is_count(value) and value < 2**32):
            raise UserError(f'--resume {path} is damaged: meta.{key} is {str(value)[:40]!r}')


def is_count(value: Any) -> bool:
    """Whether ``value`` is an integer >= 0."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0
