"""The one place that knows which exceptions of the libraries are the user's to put right.

Each rule goes by the type of an exception and its message alone.
"""

from __future__ import annotations

import errno
import re

from ..errors import RunFailed, UserError
from .libraries import OPERATORS_HINT, install_hint

_LIBRARIES = ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain')
_DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
# how this package words a wrong argument
_WRONG_ARGUMENT = re.compile(r'expected .+, got |unknown .+; choose |\w+ needs images of at least ')
_CONSTRUCTOR = re.compile(r'(\w*)\.?__init__\(\) (got an unexpected|missing \d+ required) (.*)')
_UNKNOWN_TYPE = re.compile(r'(\S+) is not in the (\S+ registry)|Failed to get (\S+)$')
_DEAD_WORKER = re.compile(r'DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (.*)')


def explain(error: Exception) -> UserError | None:
    """The error in the user's terms; None for a programming error, which keeps its traceback."""
    for translate in (_own, _import, _config, _worker, _memory, _file):
        problem = translate(error)
        if problem is not None:
            return problem
    return None


def _own(error: Exception) -> UserError | None:
    if not isinstance(error, UserError):
        return None
    # a DataLoader worker hands over the text of its traceback; the message is the last line
    name = f'{type(error).__module__}.{type(error).__qualname__}'
    match = re.search(rf'^{re.escape(name)}: (.*)', str(error), re.M | re.S)
    return type(error)(match[1].strip()) if match else error


def _import(error: Exception) -> UserError | None:
    if not isinstance(error, ImportError):
        return None
    name = error.name or ''
    if name.startswith('mmcv._ext'):
        return UserError(f'mmcv has no compiled operators ({error}); {OPERATORS_HINT}')
    if name in _LIBRARIES and isinstance(error, ModuleNotFoundError):
        return UserError(f'{name} is not installed; {install_hint(name)}')
    if not name and str(error).startswith('Please'):  # mmengine's visualizer backends
        return UserError(f'a package that the config needs is missing: {error}')
    return None


def _config(error: Exception) -> UserError | None:
    """A type, an argument or a value in the config that is wrong."""
    text = str(error.args[0]) if error.args else ''
    unknown, argument = _UNKNOWN_TYPE.match(text), _CONSTRUCTOR.match(text)
    if unknown and isinstance(error, (KeyError, RuntimeError)):
        kind, registry = unknown[1] or unknown[3], unknown[2] or 'registry'
        return UserError(
            f'config: type={kind!r} is not in the {registry}: it is misspelt, or custom_imports lacks its '
            "module (for this package: custom_imports = dict(imports=['weightformer_mm']))"
        )
    if argument and isinstance(error, TypeError):
        problem = f'{argument[2]} {argument[3]}'.replace('keyword argument', 'key')
        return UserError(f'config: {argument[1] or "a type"} {problem}')
    if isinstance(error, (TypeError, ValueError)) and _WRONG_ARGUMENT.match(text):
        return UserError(text)
    return None


def _worker(error: Exception) -> UserError | None:
    """A process of a data loader is gone: torch says which, or the connection to it breaks."""
    match = _DEAD_WORKER.match(str(error)) if isinstance(error, RuntimeError) else None
    if match:
        what = f'process {match[1]}, which loads data, {match[2].strip(" .")}'
    elif isinstance(error, (ConnectionError, EOFError)):
        what = 'a process that loads data was killed'
    else:
        return None
    return RunFailed(f'{what}; if memory is short, lower num_workers or batch_size')


def _memory(error: Exception) -> UserError | None:
    is_short = isinstance(error, MemoryError) or type(error).__name__ == 'OutOfMemoryError'
    if not is_short and "DefaultCPUAllocator: can't allocate memory" not in str(error):
        return None
    return RunFailed(
        'out of memory; lower batch_size or the image size, or use --amp or with_cp=True of the backbone'
    )


def _file(error: Exception) -> UserError | None:
    if not isinstance(error, OSError) or not (error.filename or error.errno in _DISK_ERRNOS):
        return None
    where = f' {error.filename}' if error.filename else ''
    return UserError(f'cannot use the file or folder{where}: {error.strerror}')
