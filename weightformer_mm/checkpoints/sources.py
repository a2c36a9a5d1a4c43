"""Where weights may come from: files, URLs, the Hugging Face hub, and the model zoos that mmengine knows.

All of them end in `load_checkpoint_file`, which runs nothing that is in the file.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as zoos

from ..config.read import read_files_safely
from ..errors import UserError
from . import hub
from .safe_load import load_checkpoint_file

_HTTP = ('http://', 'https://')
_UNSAFE = ('pavi://', r'(\S+\:)?s3://', r'(\S+\:)?petrel://')


def load_weights(
    reference: str | os.PathLike, map_location: Any = 'cpu', with_config: bool = False
) -> dict[str, Any]:
    """Read a checkpoint from a path, ``http(s)://`` or ``hf://owner/name[@revision][/file]``.

    Args:
        map_location: as in `torch.load`.
        with_config: keep the text of the config in it; only for a caller that copies it.

    Raises:
        UserError: it cannot be had or read; one line says why.
    """
    reference = os.fspath(reference)
    if reference.startswith(_HTTP):
        return _load_from_http(reference, map_location, with_config)
    path = hub.fetch(reference) if reference.startswith(hub.SCHEME) else reference
    return load_checkpoint_file(path, map_location, with_config)


def use_safe_loading() -> None:
    """Make mmengine's ``CheckpointLoader`` read every reference through this module, in this process.

    Files of other kinds are read without running them, too: see `read_files_safely`.
    """
    _hub_logs_to_stdout()
    read_files_safely()
    register_hub()
    for scheme in ('', *_HTTP):
        _register(scheme, load_weights)
    for name in ('torchvision', 'modelzoo'):
        _register_zoo(name, zoos.get_torchvision_models)
    for name in ('open-mmlab', 'openmmlab'):
        _register_zoo(name, zoos.get_external_models)
    _register_zoo('mmcls', zoos.get_mmcls_models, prefix='backbone.')
    for scheme in _UNSAFE:
        _register(scheme, _refuse)


def register_hub() -> None:
    """Make ``hf://`` known to mmengine's ``CheckpointLoader``, for any training script."""
    _register(hub.SCHEME, load_weights)


def _register(scheme: str, loader: Callable[..., dict[str, Any]]) -> None:
    CheckpointLoader.register_scheme(scheme, loader, force=True)


def _load_from_http(url: str, map_location: Any, with_config: bool = False) -> dict[str, Any]:
    """Download to torch's cache; torch renames the whole file, so several processes may do so at once."""
    cached = Path(torch.hub.get_dir(), 'checkpoints', _cached_name(url))
    is_new = not cached.is_file()
    if is_new:
        try:
            cached.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(cached))
        # URLError and HTTPError are OSErrors; a ValueError is about the URL itself
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, 'reason', None) or error
            raise UserError(f'{url}: download failed: {reason}') from error
    try:
        return load_checkpoint_file(cached, map_location, with_config)
    except UserError as error:
        if (
            is_new
        ):  # an error page, or not what its name says; older files stay for their owner to judge
            cached.unlink(missing_ok=True)
        raise UserError(f'{url}: {error}') from error


def _cached_name(url: str) -> str:
    try:
        name = urlsplit(url).path.rpartition('/')[2]
    except ValueError as error:
        raise UserError(f'{url} is no URL: {error}') from error
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]  # many files are called epoch_12.pth
    return f'{digest}-{name or "index"}'


def _register_zoo(name: str, urls: Callable[[], dict[str, str]], prefix: str = '') -> None:
    """Read the models that mmengine maps to URLs; of their weights those below ``prefix``, without it."""
    scheme = f'{name}://'

    def load(reference: str, map_location: Any = None) -> dict[str, Any]:
        model = reference.removeprefix(scheme)
        url = urls().get(model, '')
        if not url.startswith(_HTTP):
            raise UserError(f'{reference}: mmengine knows no URL for {model}')
        checkpoint = _load_from_http(url, map_location)
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
