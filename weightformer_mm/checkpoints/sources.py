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
_ZOOS = {  # the functions of mmengine that map models to URLs
    'torchvision://': 'get_torchvision_models',
    'modelzoo://': 'get_torchvision_models',
    'open-mmlab://': 'get_external_models',
    'openmmlab://': 'get_external_models',
    'mmcls://': 'get_mmcls_models',
}
_UNSAFE = ('pavi://', r'(\S+\:)?s3://', r'(\S+\:)?petrel://')


def load_weights(
    reference: str | os.PathLike, map_location: Any = 'cpu', with_config: bool = False
) -> dict[str, Any]:
    """Read a checkpoint from a path, ``http(s)://`` or ``hf://owner/name[@revision][/file]``.

    Arguments and errors as of `load_checkpoint_file`; a UserError, too, if it cannot be had.
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
    for scheme, table in _ZOOS.items():
        _register_zoo(scheme, table)
    for scheme in _UNSAFE:
        _register(scheme, _refuse)


def register_hub() -> None:
    """Make ``hf://`` known to mmengine's ``CheckpointLoader``, for any training script."""
    _register(hub.SCHEME, load_weights)


def _register(scheme: str, loader: Callable[..., dict[str, Any]]) -> None:
    CheckpointLoader.register_scheme(scheme, loader, force=True)


def _load_from_http(url: str, map_location: Any, with_config: bool = False) -> dict[str, Any]:
    """Download to torch's cache; torch renames the whole file, so several processes may do so at once."""
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]  # many files are called epoch_12.pth
    # URLError and HTTPError are OSErrors; a ValueError is about the URL itself
    try:
        name = urlsplit(url).path.rpartition('/')[2] or 'index'
        cached = Path(torch.hub.get_dir(), 'checkpoints', f'{digest}-{name}')
        is_new = not cached.is_file()
        if is_new:
            cached.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(cached))
    except (OSError, HTTPException, ValueError) as error:
        raise UserError(f'{url}: download failed: {getattr(error, "reason", error)}') from error
    try:
        return load_checkpoint_file(cached, map_location, with_config)
    except UserError as error:
        # an error page, or not what its name says; older files stay for their owner to judge
        if is_new:
            cached.unlink(missing_ok=True)
        raise UserError(f'{url}: {error}') from error


def _register_zoo(scheme: str, table: str) -> None:
    """Read the models that mmengine maps to URLs; of a classifier of mmcls the backbone alone."""

    def load_from_zoo(reference: str, map_location: Any = None) -> dict[str, Any]:
        model = reference.removeprefix(scheme)
        url = getattr(zoos, table)().get(model, '')
        if not url.startswith(_HTTP):
            raise UserError(f'{reference}: mmengine knows no URL for {model}')
        checkpoint = _load_from_http(url, map_location)
        if scheme != 'mmcls://':
            return checkpoint
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
            handler.setStream(sys.stdout)
