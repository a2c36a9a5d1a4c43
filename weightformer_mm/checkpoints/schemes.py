"""Makes mmengine's ``CheckpointLoader`` read through `sources`: ``hf://`` as soon as this module is imported.

Kept apart from `sources`, since ``mmengine.runner`` loads OpenCV.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as zoos
from torch import Tensor

from ..config.read import read_files_safely
from ..errors import UserError
from . import hub
from .match import CONTAINERS, plain_name
from .sources import HTTP, load_from_http, load_weights

_ZOOS = {  # the functions of mmengine that map models to URLs
    'torchvision://': 'get_torchvision_models',
    'modelzoo://': 'get_torchvision_models',
    'open-mmlab://': 'get_external_models',
    'openmmlab://': 'get_external_models',
    'mmcls://': 'get_mmcls_models',
}
_UNSAFE = ('pavi://', r'(\S+\:)?s3://', r'(\S+\:)?petrel://')


def use_safe_loading() -> None:
    """Make mmengine's ``CheckpointLoader`` read every reference through `sources`, in this process.

    Reading other kinds of files does not run them either: see `read_files_safely`.
    """
    _hub_logs_to_stdout()
    read_files_safely()
    for scheme in ('', *HTTP):
        _register(scheme, _load_checkpoint)
    for scheme, table in _ZOOS.items():
        _register_zoo(scheme, table)
    for scheme in _UNSAFE:
        _register(scheme, _refuse)


def _load_checkpoint(reference: str, map_location: Any = None) -> dict[str, Any]:
    """Any file of weights as mmengine's checkpoint: hooks, such as EMAHook, read its ``state_dict``."""
    return _nested(load_weights(reference, map_location))


def _nested(loaded: dict[str, Any]) -> dict[str, Any]:
    if all(isinstance(value, Tensor) for value in loaded.values()):
        loaded = {'state_dict': loaded}
    key = next((key for key in CONTAINERS if isinstance(loaded.get(key), dict)), None)
    if key is not None:
        weights = loaded.pop(key)
        names = {name: plain_name(name) for name in weights if isinstance(name, str)}
        is_plain = all(name == plain for name, plain in names.items())
        # a plain one keeps the versions of its modules, which it has as an attribute
        loaded['state_dict'] = weights if is_plain else {names[n]: weights[n] for n in names}
    return loaded


def _register(scheme: str, loader: Callable[..., dict[str, Any]]) -> None:
    CheckpointLoader.register_scheme(scheme, loader, force=True)


def _register_zoo(scheme: str, table: str) -> None:
    """Read the models that mmengine maps to URLs; for a classifier of mmcls only the backbone."""

    def load_from_zoo(reference: str, map_location: Any = None) -> dict[str, Any]:
        model = reference.removeprefix(scheme)
        url = getattr(zoos, table)().get(model, '')
        if not url.startswith(HTTP):
            raise UserError(f'{reference}: mmengine knows no URL for {model}')
        checkpoint = load_from_http(url, map_location)
        if scheme != 'mmcls://':
            return _nested(checkpoint)
        weights, part = checkpoint.get('state_dict', checkpoint), 'backbone.'
        kept = {n.removeprefix(part): weights[n] for n in weights if n.startswith(part)}
        return {'state_dict': kept}

    _register(scheme, load_from_zoo)


def _refuse(reference: str, map_location: Any = None) -> dict[str, Any]:
    raise UserError(
        f'{reference}: this kind of storage can only be read by unpickling, which could run code; '
        'copy the file to disk and give its path'
    )


def _hub_logs_to_stdout() -> None:
    """Let huggingface_hub announce its retries on stdout: a tool keeps stderr for errors."""
    for handler in logging.getLogger('huggingface_hub').handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.stream = sys.stdout  # `setStream` flushes the old one, which may be closed


_register(hub.SCHEME, _load_checkpoint)
