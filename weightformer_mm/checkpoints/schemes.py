"""What mmengine's ``CheckpointLoader`` reads through `sources`: ``hf://`` from the import of this module on.

Apart from `sources`, since ``mmengine.runner`` loads OpenCV.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as zoos

from ..config.read import read_files_safely
from ..errors import UserError
from . import hub
from .sources import HTTP, load_from_http, load_weights

_UNSAFE = ('pavi://', r'(\S+\:)?s3://', r'(\S+\:)?petrel://')


def use_safe_loading() -> None:
    """Make mmengine's ``CheckpointLoader`` read every reference through this module, in this process.

    Files of other kinds are read without running them, too: see `read_files_safely`.
    """
    _hub_logs_to_stdout()
    read_files_safely()
    for scheme in ('', *HTTP):
        _register(scheme, load_weights)
    for name in ('torchvision', 'modelzoo'):
        _register_zoo(name, zoos.get_torchvision_models)
    for name in ('open-mmlab', 'openmmlab'):
        _register_zoo(name, zoos.get_external_models)
    _register_zoo('mmcls', zoos.get_mmcls_models, prefix='backbone.')
    for scheme in _UNSAFE:
        _register(scheme, _refuse)


def _register(scheme: str, loader: Callable[..., dict[str, Any]]) -> None:
    CheckpointLoader.register_scheme(scheme, loader, force=True)


def _register_zoo(name: str, urls: Callable[[], dict[str, str]], prefix: str = '') -> None:
    """Read the models that mmengine maps to URLs; of their weights those below ``prefix``, without it."""
    scheme = f'{name}://'

    def load(reference: str, map_location: Any = None) -> dict[str, Any]:
        model = reference.removeprefix(scheme)
        url = urls().get(model, '')
        if not url.startswith(HTTP):
            raise UserError(f'{reference}: mmengine knows no URL for {model}')
        checkpoint = load_from_http(url, map_location)
        if not prefix:
            return checkpoint
        weights = checkpoint.get('state_dict', checkpoint)
        kept = {n.removeprefix(prefix): weights[n] for n in weights if n.startswith(prefix)}
        return {'state_dict': kept}

    _register(scheme, load)


def _refuse(reference: str, map_location: Any = None) -> dict[str, Any]:
    raise UserError(
        f'{reference}: this kind of storage can only be read by unpickling, which could run code; '
        'copy the file to disk and give its path'
    )


def _hub_logs_to_stdout() -> None:
    """Let huggingface_hub announce its retries on stdout: a tool keeps stderr for errors."""
    for handler in logging.getLogger('huggingface_hub').handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(sys.stdout)


_register(hub.SCHEME, load_weights)
