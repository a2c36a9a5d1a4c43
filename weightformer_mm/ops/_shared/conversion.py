"""Calling a module with other parameters than its own, without writing to it: threads may share it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


def converted_copy(module: nn.Module, convert: Callable[[Any], Any]) -> nn.Module:
    """A module that shares all with ``module`` but its parameters and buffers, which are converted."""
    copies: dict[nn.Module | None, Any] = {
        part: object.__new__(type(part)) for part in module.modules()
    }
    for part, copy in list(copies.items()):
        vars(copy).update(vars(part))
        for kind in ('_parameters', '_buffers'):
            tensors = vars(part)[kind]
            vars(copy)[kind] = {name: convert(tensor) for name, tensor in tensors.items()}
        children = vars(part)['_modules']
        vars(copy)['_modules'] = {name: copies.get(child) for name, child in children.items()}
    return copies[module]
