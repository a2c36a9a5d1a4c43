"""Calls of mmcv's compiled operators, which PyTorch does not dispatch and no counter would see."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._pytree import tree_flatten

from ...utils.patches import replaced


class NeedsValues(RuntimeError):
    """What comes next depends on the values of a tensor that has none."""


@contextmanager
def watch_mmcv(record: Callable[[str, Callable[[], Any]], Any]) -> Iterator[None]:
    """Hand each call of an operator of mmcv to ``record(name, call)``, which returns ``call()``."""
    module = _mmcv_operators()
    if module is None:
        yield
        return
    operators = {name: value for name, value in vars(module).items() if callable(value)}
    watched = {name: _watched(name, value, record) for name, value in operators.items()}
    with replaced(module, **watched):
        yield


def _mmcv_operators() -> ModuleType | None:
    if find_spec('mmcv') is None or find_spec('mmcv._ext') is None:  # not there, or mmcv-lite
        return None
    return import_module('mmcv._ext')


def _watched(name: str, operator: Callable, record: Callable) -> Callable:
    @functools.wraps(operator)
    def call(*args: Any, **kwargs: Any) -> Any:
        leaves, _ = tree_flatten((args, kwargs))
        if any(isinstance(leaf, FakeTensor) for leaf in leaves):
            raise NeedsValues(f'mmcv::{name} cannot run without values')
        short = name[: -len('_forward')] if name.endswith('_forward') else name
        return record(f'mmcv::{short}', functools.partial(operator, *args, **kwargs))

    return call
