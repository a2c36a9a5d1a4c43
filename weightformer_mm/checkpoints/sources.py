"""Where weights may come from: files, URLs and the Hugging Face hub.

All of them end in `load_checkpoint_file`, which runs no code from the file.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from ..config.read import find_recipe
from ..errors import UserError
from . import hub
from .safe_load import load_checkpoint_file

HTTP = ('http://', 'https://')
_PATIENCE = 60.0  # seconds without a byte
WEIGHTS = '.safetensors'  # of a recipe, beside it


def load_weights(
    reference: str | os.PathLike, map_location: Any = 'cpu', with_config: bool = False
) -> dict[str, Any]:
    """Read a checkpoint from a path, ``http(s)://`` or ``hf://owner/name[@revision][/file]``.

    The name of a recipe stands for the weights that ship with it. Arguments and errors as in
    `load_checkpoint_file`; also a UserError if the download fails.
    """
    reference = os.fspath(reference)
    if reference.startswith(HTTP):
        return load_from_http(reference, map_location, with_config)
    on_hub = reference.startswith(hub.SCHEME)
    path = hub.fetch(reference) if on_hub else find_recipe(reference, WEIGHTS)
    return load_checkpoint_file(path or reference, map_location, with_config)


def load_from_http(url: str, map_location: Any, with_config: bool = False) -> dict[str, Any]:
    """Download to torch's cache; torch renames the whole file, so several processes may do so at once."""
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]  # many files are called epoch_12.pth
    # URLError and HTTPError are OSErrors; a ValueError is about the URL itself
    try:
        name = urlsplit(url).path.rpartition('/')[2] or 'index'
        cached = Path(torch.hub.get_dir(), 'checkpoints', f'{digest}-{name}')
        is_new = not cached.is_file()
        if is_new:
            cached.parent.mkdir(parents=True, exist_ok=True)
            with _time_limit():
                torch.hub.download_url_to_file(url, str(cached))
    except (OSError, HTTPException, ValueError) as error:
        raise UserError(
            f'{url}: download failed: {getattr(error, "reason", None) or error}'
        ) from error
    try:
        return load_checkpoint_file(cached, map_location, with_config)
    except UserError as error:
        # an error page, or not what its name says; older files are left for their owner to judge
        if is_new:
            cached.unlink(missing_ok=True)
        raise UserError(f'{url}: {error}') from error


@contextmanager
def _time_limit() -> Iterator[None]:
    """Let a connection that is opened in the block fail if nothing comes; torch sets no limit."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
