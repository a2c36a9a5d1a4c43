"""timm's loading of pretrained weights without running what is in the file, whatever timm's version."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from timm.models import _helpers, _hub

_READERS = (_hub.load_state_dict_from_hf, _helpers.load_state_dict)


def is_safe_by_default() -> bool:
    """Whether this timm itself reads with ``weights_only=True``, from the hub and from files."""
    parameters = [inspect.signature(reader).parameters.get('weights_only') for reader in _READERS]
    return all(parameter is not None and parameter.default is True for parameter in parameters)


@contextmanager
def only_weights(active: bool) -> Iterator[None]:
    """Where timm leaves it open how ``torch.load`` reads, make it read with ``weights_only=True``."""
    if not active or is_safe_by_default():
        yield
        return
    load = torch.load

    @wraps(load)
    def load_weights(*args: Any, **options: Any) -> Any:
        return load(*args, **dict(options, weights_only=True))

    torch.load = load_weights
    try:
        yield
    finally:
        torch.load = load
