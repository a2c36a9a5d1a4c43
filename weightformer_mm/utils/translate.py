"""The only place that knows which library errors the user can fix, and which libraries are missing.

Each rule goes only by an exception's type and message, but for one: whatever a part of the config raises
while it is built is the config's fault.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec

from ..errors import ArgumentError, LibraryMissing, RunFailed, UserError
from .blame import described, place_built, place_run

_CONFIG = 'config: '
_LIBRARIES = ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain', 'pycocotools')
_DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
# how this package's errors word a wrong argument
_WRONG_ARGUMENT = re.compile(r'expected .+, got |unknown .+; choose |\w+ needs images of at least ')
_CONSTRUCTOR = re.compile(r'(\w*)\.?__init__\(\) (got an unexpected|missing \d+ required) (.*)')
_UNKNOWN_TYPE = re.compile(r'(\S+) is not in the (\S+(?: \w+)* registry)|Failed to get (\S*)$')
_NO_LABELS = re.compile(r"'(gt_\w+|seg_map_path|instances)'$")
# of mmengine's and mmseg's data preprocessors about an image
_CHANNELS = re.compile(
    r'(?:index 2 is out of bounds for dimension 0 with size |The size of tensor a \(|'
    r'If the mean has 3 values, the input .*torch\.Size\(\[)(\d+)'
)
# of collating samples that are still a pipeline's own, and of any data preprocessor
_UNPACKED = re.compile('each data_itement in list of batch should be of equal size|inputs$')
UNPACKED = (
    "samples without 'inputs', which a model needs: the pipeline of a data set, or of its "
    'MultiImageMixDataset, must end in PackDetInputs, PackSegInputs or PackInputs'
)
_NO_OBJECTS = re.compile(r"'InstanceData' object has no attribute '(bboxes|labels|masks)'$")
_IF_SHORT = 'if memory is short, lower num_workers or batch_size'
_DEAD_WORKER = re.compile(r'DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (.*)')


def explain(error: Exception) -> UserError | None:
    """The error in the user's terms; None for a programming error, which needs its traceback."""
    return _placed(error, place_built(error))


@contextmanager
def blamed(what: str) -> Iterator[None]:
    """Raise whatever goes wrong in the block as the user's error, which begins with ``what``."""
    try:
        yield
    except Exception as error:
        raise blame(error, what) from error


def blame(error: Exception, what: str) -> UserError:
    """Like `explain`, but for input that must be at fault: an unknown error gets ``what`` in front."""
    return explain(error) or UserError(f'{what}: {described(error)}')


def blame_run(error: Exception, part: str) -> UserError:
    """Like `blame`, for what fails while parts of the config run: the innermost one is named, or ``part``."""
    return _placed(error, place_built(error) or place_run(error) or part)


def _placed(error: Exception, place: str | None) -> UserError | None:
    """The error in the user's terms, with its place in the config if it is about a part of it."""
    problem = _explain(error)
    if problem is not None and type(problem) not in (ArgumentError, _OfConfig):
        return problem
    text = described(error) if problem is None else str(problem)
    if place is None:
        return UserError(text) if type(problem) is _OfConfig else problem
    return UserError(f'{_CONFIG}{place}: {text.removeprefix(_CONFIG)}')


class _OfConfig(UserError):
    """An argument in a config is wrong; its place is still to be found."""


def _explain(error: Exception) -> UserError | None:
    text = str(error.args[0]) if error.args else ''
    if isinstance(error, UserError):
        # a DataLoader worker passes on the text of its traceback; the message is the last line
        name = f'{type(error).__module__}.{type(error).__qualname__}'
        match = re.search(rf'^{re.escape(name)}: (.*)', str(error), re.M | re.S)
        return type(error)(match[1].strip()) if match else error
    if isinstance(error, ImportError):
        name = error.name or text.partition(' is not installed')[0]  # mmengine's own gives no name
        if name.startswith('mmcv._ext'):
            return _no_operators(error)
        if name in _LIBRARIES and isinstance(error, ModuleNotFoundError):
            return LibraryMissing(f'{name} is not installed; {_install_hint(name)}')
        if text.startswith('Failed to import'):  # an import of a config, which mmengine does late
            return UserError(f'{_CONFIG}{text}')
        if text.startswith('Please'):  # mmengine's visualizer backends
            return UserError(f'a package that the config needs is missing: {error}')
    if isinstance(error, (KeyError, RuntimeError)) and (match := _UNKNOWN_TYPE.match(text)):
        return _OfConfig(
            f'{_CONFIG}type={match[1] or match[3]!r} is not in the {match[2] or "registry"}: it is misspelt, '
            'or custom_imports lacks its module (for this package: '
            "custom_imports = dict(imports=['weightformer_mm']))"
        )
    last = str(error).strip().rpartition('\n')[2]  # of the traceback that a worker passes on
    if isinstance(error, KeyError) and (match := _NO_LABELS.search(last)):
        return UserError(
            f'the images have no labels ({match[1]}), which training and evaluation need: give their place '
            '(data_prefix, ann_file) and LoadAnnotations in the pipeline, or predict with infer'
        )
    if '/data_preprocessor.py' in described(error) and (match := _CHANNELS.match(text)):
        return UserError(
            f'model.data_preprocessor needs images of 3 channels, but got {match[1]}: load them as colours '
            "(color_type='color'), or set its bgr_to_rgb, mean and std, and in_channels, to suit them"
        )
    if text.startswith('The image size in a batch should be the same'):  # mmseg's
        return UserError(
            'the images of a batch have different sizes: set batch_size of its data loader to 1, or the type '
            'of val_cfg to ValLoopByImageSize, of test_cfg to TestLoopByImageSize'
        )
    if isinstance(error, (KeyError, RuntimeError)) and _UNPACKED.match(text):
        return UserError(UNPACKED)
    if isinstance(error, AttributeError) and (match := _NO_OBJECTS.match(text)):
        return UserError(
            f'the objects have no {match[1]}, which the model learns from: LoadAnnotations with_bbox=True, '
            'and with_mask=True for masks, loads them'
        )
    if isinstance(error, TypeError) and (match := _CONSTRUCTOR.match(text)):
        problem = f'{match[2]} {match[3]}'.replace('keyword argument', 'key')
        return _OfConfig(f'{_CONFIG}{match[1] or "a type"} {problem}')
    if isinstance(error, (TypeError, ValueError)) and _WRONG_ARGUMENT.match(text):
        return _OfConfig(text)
    if isinstance(error, RuntimeError) and (match := _DEAD_WORKER.match(text)):
        what = f'process {match[1]}, which loads data, {match[2].strip(" .")}'
        return RunFailed(f'{what}; {_IF_SHORT}')
    if isinstance(error, (ConnectionError, EOFError)):
        return RunFailed(f'a process that loads data was killed; {_IF_SHORT}')
    is_short = isinstance(error, MemoryError) or type(error).__name__ == 'OutOfMemoryError'
    if is_short or "DefaultCPUAllocator: can't allocate memory" in text:
        return RunFailed('out of memory; lower batch_size or image size, use --amp or with_cp=True')
    if isinstance(error, FileNotFoundError) and not error.filename and text:  # mmengine's own
        return UserError(text)
    if isinstance(error, OSError) and (error.filename or error.errno in _DISK_ERRNOS):
        where = f' {error.filename}' if error.filename else ''
        return UserError(f'cannot use the file or folder{where}: {error.strerror}')
    return None


def require_libraries(scope: str) -> None:
    """Raise LibraryMissing unless ``scope`` and mmcv's operators, which only batches need, are installed."""
    if find_spec(scope) is None:
        raise LibraryMissing(
            f'{scope}, which the config needs, is not installed; {_install_hint(scope)}'
        )
    if scope in ('mmdet', 'mmseg'):
        try:
            import_module('mmcv.ops')
        except ImportError as error:
            raise _no_operators(error) from error


def _no_operators(error: ImportError) -> LibraryMissing:
    return LibraryMissing(
        f'mmcv has no compiled operators ({error}); mmcv-lite is not enough: install mmcv or onedl-mmcv '
        'after torch (pip install --no-build-isolation onedl-mmcv)'
    )


def _install_hint(library: str) -> str:
    extra, official = 'onedl', "'weightformer_mm[openmmlab]'"
    if library == 'mmpretrain':
        extra, official = 'pretrain', "'mmpretrain>=1.0'"
    return f"pip install 'weightformer_mm[{extra}]' (maintained builds) or {official} (official builds)"
