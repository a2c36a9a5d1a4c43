"""Calling a module with other parameters than its own, without writing to it: threads may share it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


def converted_copy(
    module: nn.Module, convert: Callable[[Any], Any], made: dict[nn.Module, nn.Module] | None = None
) -> nn.Module:
    """A module that shares all with ``module`` but its parameters and buffers, which are converted.

    A submodule that occurs twice is copied once.
    """
    made = {} if made is None else made
    if module not in made:
        made[module] = copy = object.__new__(type(module))
        vars(copy).update(vars(module))
        for kind in ('_parameters', '_buffers'):
            tensors = vars(module)[kind]
            vars(copy)[kind] = {name: convert(tensor) for name, tensor in tensors.items()}
        vars(copy)['_modules'] = {
            name: None if child is None else converted_copy(child, convert, made)
            for name, child in module._modules.items()
        }
    return made[module]
