"""The one place that knows which exceptions of the libraries are the user's to put right."""

from __future__ import annotations

import dis
import errno
import os
import re
from collections.abc import Iterator
from types import TracebackType

from ..errors import RunFailed, UserError
from .libraries import OPERATORS_HINT, install_hint

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_LIBRARIES = ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain')
_FILE_ERRNOS = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EFBIG,
    errno.EIO,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}


def explain(error: Exception) -> UserError | None:
    """The error in the user's terms; None for a programming error, which keeps its traceback."""
    for translate in (
        _own,
        _vis_backend,
        _import,
        _unknown_type,
        _bad_argument,
        _package_check,
        _data_list,
        _worker,
        _memory,
        _file,
    ):
        problem = translate(error)
        if problem is not None:
            return problem
    return None


def _own(error: Exception) -> UserError | None:
    if not isinstance(error, UserError):
        return None
    # a DataLoader worker hands over the text of its traceback; the message is the last line
    match = re.search(rf'^{re.escape(_qualified(type(error)))}: (.*)', str(error), re.M | re.S)
    return type(error)(match.group(1).strip()) if match else error


def _qualified(kind: type) -> str:
    return f'{kind.__module__}.{kind.__qualname__}'


def _vis_backend(error: Exception) -> UserError | None:
    """mmengine's visualizer backends, which ask for the package that they log to and name no module."""
    frames = list(_frames(error))
    if not isinstance(error, ImportError) or not frames:
        return None
    if not _in_library(frames[-1], 'mmengine', 'visualization'):
        return None
    backend = type(frames[-1].tb_frame.f_locals.get('self')).__name__
    return UserError(f'visualizer.vis_backends: {backend}: {error}')


def _import(error: Exception) -> UserError | None:
    if not isinstance(error, ImportError) or not error.name:
        return None
    if error.name.startswith('mmcv._ext'):
        return UserError(f'mmcv has no compiled operators ({error}); {OPERATORS_HINT}')
    if error.name in _LIBRARIES and isinstance(error, ModuleNotFoundError):
        return UserError(f'{error.name} is not installed; {install_hint(error.name)}')
    return None


def _unknown_type(error: Exception) -> UserError | None:
    """mmengine's registries: ``X is not in the mmdet::model registry. Please check ...``."""
    if not isinstance(error, (KeyError, RuntimeError)) or not error.args:
        return None
    text = str(error.args[0])
    match = re.match(r'(\S+) is not in the (\S+) registry', text)
    if match is None:
        match = re.match(r'Failed to get (\S+)()$', text)
    if match is None:
        return None
    registry = f'the {match.group(2)} registry' if match.group(2) else 'any registry'
    return UserError(
        f'config: type={match.group(1)!r} is not in {registry}: misspelt, or its module is missing from '
        "custom_imports (for this package: custom_imports = dict(imports=['weightformer_mm']))"
    )


def _bad_argument(error: Exception) -> UserError | None:
    """A key of the config that the class of that ``type`` does not know, or lacks."""
    if not isinstance(error, TypeError) or 'argument' not in str(error):
        return None
    frames = list(_frames(error))
    if not frames or not _builds(frames[-1]):
        return None
    detail = re.sub(r'^\S+\(\) ', '', str(error)).replace('keyword argument', 'key')
    return UserError(f'config: {_built_type(frames[-1])} {detail}')


def _package_check(error: Exception) -> UserError | None:
    """An error raised on purpose by this package: an argument check, with the valid values in it."""
    frames = list(_frames(error))
    if not isinstance(error, (ValueError, TypeError)) or not frames:
        return None
    code = frames[-1].tb_frame.f_code
    raised_here = code.co_code[frames[-1].tb_lasti] == dis.opmap['RAISE_VARARGS']
    if not raised_here or not os.path.abspath(code.co_filename).startswith(_PACKAGE):
        return None
    builders = [frame for frame in frames if _builds(frame)]
    return UserError(f'config: {_built_type(builders[-1])}: {error}' if builders else str(error))


def _data_list(error: Exception) -> UserError | None:
    """mmpretrain's data sets: too few class folders, none with an image, a line that is no name and class."""
    frames = list(_frames(error))
    if not isinstance(error, (AssertionError, RuntimeError, ValueError)) or not frames:
        return None
    builders = [frame for frame in frames if _builds(frame)]
    if not builders or not _in_library(frames[-1], 'mmpretrain', 'datasets'):
        return None
    data_set = frames[-1].tb_frame.f_locals.get('self')
    source = getattr(data_set, 'ann_file', '') or getattr(data_set, 'img_prefix', '')
    return UserError(f'data set {_built_type(builders[-1])}, {source}: {error}')


def _worker(error: Exception) -> UserError | None:
    """A process of a data loader that is gone: torch says which, or only that nobody answers any more."""
    start = 'DataLoader worker (pid'
    if isinstance(error, RuntimeError) and str(error).startswith(start):
        number, _, how = str(error)[len(start) :].lstrip('(s) ').partition(')')
        what = f'process {number}, which loads data, {how.strip(" .")}'
    elif isinstance(error, (ConnectionError, EOFError)) and any(
        _in_library(frame, 'torch', 'utils', 'data') for frame in _frames(error)
    ):
        what = 'a process that loads data was killed'
    else:
        return None
    return RunFailed(f'{what}; where memory is short, lower num_workers or batch_size')


def _memory(error: Exception) -> UserError | None:
    text = str(error)
    out_of_memory = isinstance(error, MemoryError) or type(error).__name__ == 'OutOfMemoryError'
    if not out_of_memory and "DefaultCPUAllocator: can't allocate memory" not in text:
        return None
    return RunFailed(
        'out of memory; lower batch_size or the image size, or use --amp or with_cp=True of the backbone'
    )


def _file(error: Exception) -> UserError | None:
    if not isinstance(error, OSError) or error.errno not in _FILE_ERRNOS:
        return None
    where = f' {error.filename}' if error.filename else ''
    return UserError(f'cannot use the file or folder{where}: {error.strerror}')


def _frames(error: Exception) -> Iterator[TracebackType]:
    """The traceback, innermost frame last."""
    trace = error.__traceback__
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _builds(frame: TracebackType) -> bool:
    """Whether it is mmengine's registry that builds what the config describes."""
    path = frame.tb_frame.f_code.co_filename
    return path.endswith(os.path.join('mmengine', 'registry', 'build_functions.py'))


def _in_library(frame: TracebackType, *folders: str) -> bool:
    return f'{os.sep}{os.path.join(*folders)}{os.sep}' in frame.tb_frame.f_code.co_filename


def _built_type(frame: TracebackType) -> str:
    kind = frame.tb_frame.f_locals.get('obj_cls')
    return getattr(kind, '__name__', str(kind))
