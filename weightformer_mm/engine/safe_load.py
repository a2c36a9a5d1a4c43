"""Checkpoints are read as safetensors or with ``weights_only=True``, and in no other way.

mmengine's own checkpoints hold a few harmless objects besides tensors: ``HistoryBuffer`` (the loss
curves), numpy scalars and the curve of a one-cycle schedule; the training checkpoints of timm and of many
papers keep their command line's ``argparse.Namespace``. They are allowed by name here. Methods are
pickled through ``getattr``; allowing the real one would open a way to everything else, so a narrow stand-in
answers for it. torch < 2.4 has no allow-list: there only plain checkpoints can be read, which is what the
tools of this package write.
"""

from __future__ import annotations

import errno
import os
import re
import tarfile
import zipfile
from argparse import Namespace
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Callable

import numpy as np
import safetensors.torch
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

from .errors import UserError

_HAS_ALLOW_LIST = hasattr(torch.serialization, 'add_safe_globals')  # torch >= 2.4
_FOREIGN_OBJECT = re.compile(
    r'(?:GLOBAL|[Uu]nsupported class|instantiate class|operand) ([A-Za-z_][\w.]*)'
)


_METHODS = {
    HistoryBuffer: ('min', 'max', 'current', 'mean'),
    OneCycleParamScheduler: ('_annealing_cos', '_annealing_linear'),
}


def _known_method(owner: Any, name: str) -> Callable:
    """Stand-in for ``getattr`` in a pickle: finds the methods listed above and nothing else."""
    if not isinstance(owner, type) or name not in _METHODS.get(owner, ()):
        raise UnpicklingError(f'Unsupported global: GLOBAL getattr({owner!r}, {name!r})')
    return getattr(owner, name)


def _under_name(function: Callable, module: str, name: str) -> Callable:
    """``function`` as the allow-list of torch knows it: under the name that the pickle asks for."""

    def stand_in(*args: Any) -> Any:
        return function(*args)

    stand_in.__module__ = module
    stand_in.__name__ = stand_in.__qualname__ = name
    return stand_in


def _numpy_globals() -> list[Any]:
    core = getattr(np, '_core', None) or np.core
    multiarray = core.multiarray
    functions = [
        _under_name(function, module, name)
        # numpy 2 renamed the module; files written under either version are read under both
        for module in ('numpy.core.multiarray', 'numpy._core.multiarray')
        for name, function in (
            ('scalar', multiarray.scalar),
            ('_reconstruct', multiarray._reconstruct),
        )
    ]
    dtypes = {type(np.dtype(code)) for code in '?bBhHiIlLqQefdU'}
    return [*functions, np.ndarray, np.dtype, *dtypes]


@cache
def _harmless() -> tuple[Any, ...]:
    getattr_stand_in = _under_name(_known_method, 'builtins', 'getattr')
    return (*_METHODS, Namespace, getattr_stand_in, *_numpy_globals())


def _allow_mmengine_objects() -> None:
    """Put them on torch's list, for each file anew: a ``safe_globals`` block elsewhere takes its own off."""
    if _HAS_ALLOW_LIST:
        torch.serialization.add_safe_globals(list(_harmless()))


def _refuse_old_formats(path: Path) -> None:
    """torch < 2.6 reads these two without its restricted unpickler, whatever ``weights_only`` says."""
    is_script = zipfile.is_zipfile(path) and any(
        name.endswith('/constants.pkl') for name in zipfile.ZipFile(path).namelist()
    )
    if is_script or tarfile.is_tarfile(path):
        kind = 'a TorchScript archive' if is_script else "a tar file, torch's oldest format"
        raise UserError(f'{path} is {kind}, which can run code; save a plain state_dict')


def _read(path: Path, map_location: Any) -> Any:
    if path.suffix == '.safetensors':
        weights = safetensors.torch.load_file(path)
        return {name: tensor.to(map_location or 'cpu') for name, tensor in weights.items()}
    _refuse_old_formats(path)
    _allow_mmengine_objects()
    return torch.load(path, map_location=map_location, weights_only=True)


def load_checkpoint_file(path: str | os.PathLike, map_location: Any = 'cpu') -> dict[str, Any]:
    """Read a checkpoint (``.safetensors``, or any file of torch.save) without running any code that is in it.

    Raises:
        UserError: the file is missing, is no checkpoint, is damaged, or holds objects other than tensors,
            plain Python values and the ones named in this module.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f'checkpoint not found: {path}')
    try:
        checkpoint = _read(path, map_location)
    except (UserError, MemoryError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:
        # On bytes that are no checkpoint torch fails in every thinkable way; on a truncated file it seeks
        # to before its beginning, which is the one OSError that the file system has no part in.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise UserError(_why_unreadable(path, error)) from error
    if not isinstance(checkpoint, dict):
        raise UserError(f'{path} is no checkpoint: it holds a {type(checkpoint).__name__}')
    return checkpoint


def _why_unreadable(path: Path, error: Exception) -> str:
    foreign = _FOREIGN_OBJECT.search(str(error))
    if foreign is None:
        kind = type(error).__name__
        return (
            f'{path} is no readable checkpoint: not a file of torch.save or safetensors, '
            f'or damaged ({kind})'
        )
    remedy = 'save the weights again as a plain state_dict'
    if foreign.group(1).startswith('mmengine.') and not _HAS_ALLOW_LIST:
        remedy += ", or use torch >= 2.4, which can tell mmengine's own objects from others"
    return (
        f'{path} is not loaded: besides tensors it holds {foreign.group(1)}, and reading that could run '
        f'code from the file; {remedy}'
    )
