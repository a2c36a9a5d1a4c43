"""The only place that reads checkpoints: as safetensors, or with ``weights_only=True``.

The result is inert: it leaves out the text of a config, since mmengine's runners and inferencers parse that
text, which runs it.

Besides tensors, mmengine's checkpoints hold a few harmless objects, which are allowed by name:
``HistoryBuffer`` (the loss curves), numpy scalars and the curve of a one-cycle schedule. Those of timm and
of many papers hold the ``argparse.Namespace`` of their command line. torch < 2.4 has no allow-list: it reads
only plain checkpoints, which are what this package's tools write.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import tarfile
import zipfile
from argparse import Namespace
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO, Callable

import numpy as np
import safetensors.torch
import torch
from mmengine.logging import HistoryBuffer, print_log
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from torch import Tensor

from ..errors import UserError
from .integrity import ZIP_MAGIC, check_digest, check_zip

_HAS_ALLOW_LIST = hasattr(torch.serialization, 'add_safe_globals')  # torch >= 2.4
_MOST_VALUES, _DEEPEST = 10_000_000, 100
_FOREIGN_OBJECT = re.compile(
    r'(?:GLOBAL|[Uu]nsupported class|instantiate class|operand) ([A-Za-z_][\w.]*)'
)
_METHODS = {
    HistoryBuffer: ('min', 'max', 'current', 'mean'),
    OneCycleParamScheduler: ('_annealing_cos', '_annealing_linear'),
}


def load_checkpoint_file(
    path: str | os.PathLike, map_location: Any = 'cpu', with_config: bool = False
) -> dict[str, Any]:
    """Read a checkpoint (``.safetensors``, or any file of torch.save) without running any code in it.

    Args:
        map_location: as in `torch.load`.
        with_config: keep the text of its config; only for a caller that copies the checkpoint.

    Raises:
        UserError: the file is missing, damaged or not a checkpoint, its digest is not the one in its name,
            or it holds objects other than tensors, plain Python values and those named in this module.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f'checkpoint not found: {path}')
    check_digest(path)
    try:
        if path.suffix == '.safetensors':
            weights = safetensors.torch.load_file(path)
            checkpoint = {name: v.to(map_location or 'cpu') for name, v in weights.items()}
        else:
            _warn_of_old_torch()
            with path.open('rb') as file:
                checkpoint = _unpickle(file, path, map_location)
    except (UserError, MemoryError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:
        # Bytes that are not a checkpoint make torch fail in every conceivable way. In a truncated file it
        # seeks to before the beginning: the only OSError that does not come from the file system.
        is_of_system = isinstance(error, OSError) and error.errno != errno.EINVAL
        if is_of_system or "can't allocate memory" in str(error):
            raise
        raise UserError(_why_unreadable(path, error)) from error
    if not isinstance(checkpoint, dict):
        raise UserError(f'{path} is no checkpoint: it holds a {type(checkpoint).__name__}')
    _disarm(checkpoint, path)
    if not with_config:
        hub = checkpoint.get('message_hub')
        for holder in (checkpoint.get('meta'), isinstance(hub, dict) and hub.get('runtime_info')):
            if isinstance(holder, dict):
                holder.pop('cfg', None)
                holder.pop('config', None)
    return checkpoint


@cache
def _warn_of_old_torch() -> None:
    """torch < 2.10: a pickle can corrupt memory despite ``weights_only`` (GHSA-63cw-57p8-fm3p)."""
    if torch.__version__ < '2.10':
        print_log(
            f'torch {torch.__version__} has known security holes in reading pickled checkpoints (.pth): for '
            'files from strangers use torch >= 2.10, or safetensors',
            'current',
            logging.WARNING,
        )


def _unpickle(file: BinaryIO, path: Path, map_location: Any) -> Any:
    """Read a file of torch.save, in the current or the old format.

    Two even older formats are refused: torch < 2.6 reads them without its restricted unpickler.
    """
    is_zip, kind = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC, ''
    if is_zip and any(n.endswith('/constants.pkl') for n in zipfile.ZipFile(file).namelist()):
        kind = 'a TorchScript archive'
    elif not is_zip and tarfile.is_tarfile(path):
        kind = "a tar file, torch's oldest format"
    if kind:
        raise UserError(f'{path} is {kind}, which can run code; save a plain state_dict')
    if is_zip:
        check_zip(file, path)
    file.seek(0)
    if _HAS_ALLOW_LIST:
        # again for each file: a safe_globals block elsewhere removes its own names from the list
        torch.serialization.add_safe_globals(list(_harmless()))
    checkpoint = torch.load(file, map_location=map_location, weights_only=True)
    if not is_zip and file.read(1):
        raise UserError(f'{path} is damaged: something follows its end')
    return checkpoint


@cache
def _harmless() -> tuple[Any, ...]:
    """What a pickle may hold besides what torch itself allows."""
    multiarray = (getattr(np, '_core', None) or np.core).multiarray
    functions = [
        _under_name(getattr(multiarray, name), module, name)
        # numpy 2 renamed the module; either version reads the files of both
        for module in ('numpy.core.multiarray', 'numpy._core.multiarray')
        for name in ('scalar', '_reconstruct')
    ]
    dtypes = {type(np.dtype(code)) for code in '?bBhHiIlLqQefdU'}
    # pickles find methods by getattr; the real one would give access to everything else
    functions.append(_under_name(_known_method, 'builtins', 'getattr'))
    return (*_METHODS, Namespace, *functions, np.ndarray, np.dtype, *dtypes)


def _known_method(owner: Any, name: str) -> Callable:
    """Stand-in for ``getattr`` in a pickle: finds the methods listed above and nothing else."""
    if not isinstance(owner, type) or name not in _METHODS.get(owner, ()):
        raise UnpicklingError(f'Unsupported global: GLOBAL getattr({owner!r}, {name!r})')
    return getattr(owner, name)


def _under_name(function: Callable, module: str, name: str) -> Callable:
    """``function`` under the name that the pickle asks for; torch's allow-list goes by that name."""

    def stand_in(*args: Any) -> Any:
        return function(*args)

    stand_in.__module__ = module
    stand_in.__name__ = stand_in.__qualname__ = name
    return stand_in


def _disarm(checkpoint: dict[str, Any], path: Path) -> None:
    """Remove attributes that would hide an object's methods, and refuse content that would never end.

    A container may hold another many times over; each time counts.

    Raises:
        UserError: it holds too many values, nests too deep, or has a tensor that claims to be larger than
            the file.
    """
    pending: list[tuple[Any, int]] = [(checkpoint, 0)]
    count, size = 0, path.stat().st_size
    while pending:
        value, depth = pending.pop()
        inner: list[Any] = []
        if isinstance(value, Tensor):
            vars(value).clear()
            if value.layout == torch.strided and value.numel() * value.element_size() > size:
                raise UserError(f'{path}: a tensor in it claims to be larger than the file')
        elif isinstance(value, dict):
            versions = getattr(value, '_metadata', None)  # of modules, in a state_dict
            getattr(value, '__dict__', {}).clear()
            inner = [*value, *value.values()]
            if _are_versions(versions):
                setattr(value, '_metadata', versions)  # noqa: B010
        elif isinstance(value, (list, tuple, set, frozenset)):
            inner = list(value)
        count += len(inner)
        if count > _MOST_VALUES or depth > _DEEPEST:
            raise UserError(f'{path} is no checkpoint: it holds too many values, or nests too deep')
        pending += [(item, depth + 1) for item in inner]


def _are_versions(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str)
        and isinstance(table, dict)
        and all(type(version) in (int, type(None)) for version in table.values())
        for name, table in value.items()
    )


def _why_unreadable(path: Path, error: Exception) -> str:
    foreign = _FOREIGN_OBJECT.search(str(error))
    if foreign is None:
        return (
            f'{path} is no readable checkpoint: not a file of torch.save or safetensors, '
            f'or damaged ({type(error).__name__})'
        )
    remedy = 'save the weights again as a plain state_dict'
    if foreign[1].startswith('mmengine.') and not _HAS_ALLOW_LIST:
        remedy += ", or use torch >= 2.4, which can tell mmengine's own objects from others"
    return (
        f'{path} is not loaded: besides tensors it holds {foreign[1]}, and reading that could run code from '
        f'the file; {remedy}'
    )
