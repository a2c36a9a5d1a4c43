"""The work folder of a training: one run at a time, and the checkpoint from which the next run continues."""

from __future__ import annotations

import math
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, TextIO

from torch import Tensor

from ..checkpoints.match import unusable
from ..checkpoints.sources import load_weights
from ..errors import UserError
from ..utils.blame import nodes
from ..utils.writing import PARTIAL

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

NOTE = 'last_checkpoint'  # mmengine's name for it
_LOCK = '.lock'
_RANKS = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK', 'PMI_RANK')


@contextmanager
def held(folder: Path, launcher: str) -> Iterator[None]:
    """Make ``folder`` and keep other trainings out of it; of several processes, the first locks it for all.

    The lock belongs to the process and ends with it, however it ends. Workers of data loaders do not inherit
    it, as they would with the package filelock.

    Raises:
        UserError: the folder cannot be written to, or another training runs there.
    """
    ranks = [os.environ[name] for name in _RANKS if name in os.environ and launcher != 'none']
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / _LOCK).open('a+')
    except OSError as error:
        raise UserError(f'--work-dir {folder}: cannot write there: {error.strerror}') from error
    with file:
        if fcntl is not None and ranks[:1] in ([], ['0']):
            _lock(file, folder)
            for partial in folder.glob(f'{PARTIAL}*'):  # left by a run that was killed
                shutil.rmtree(partial, ignore_errors=True)
        yield


def _lock(file: TextIO, folder: Path) -> None:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        file.seek(0)
        raise UserError(
            f'{folder}: another training runs there ({file.read().strip()}); choose another --work-dir'
        ) from error
    except OSError:  # a file system without locks
        pass
    file.truncate(0)
    file.write(f'process {os.getpid()} on {socket.gethostname()}')
    file.flush()


@dataclass(frozen=True)
class Resumable:
    """A checkpoint that a run continues from, and why newer ones were skipped."""

    path: Path
    content: dict[str, Any]
    passed_over: list[str]

    @classmethod
    def read(cls, path: str | Path, passed_over: list[str] | None = None) -> Resumable:
        """Read ``path``; UserError if it is damaged, holds no run state, or values are not finite."""
        path = Path(path).expanduser()
        content = load_weights(path)
        check_resumable(content, path)
        for part in ('state_dict', 'ema_state_dict', 'optimizer'):
            for name, value in nodes(content.get(part), part):
                why = _problem(value) if isinstance(value, Tensor) else None
                if why:
                    raise UserError(
                        f'{path}: {name} is {why}; the file is damaged, or the training diverged'
                    )
        return cls(path, content, passed_over or [])

    @classmethod
    def newest(
        cls, work_dir: str | Path, template: str = 'epoch_{}.pth', folder: str | Path | None = None
    ) -> Resumable | None:
        """The newest intact checkpoint of a work folder; None if there is no checkpoint at all.

        Args:
            work_dir: may have been moved or copied since; checkpoints beside the note come first.
            template: names of checkpoints, with braces for the number.
            folder: where the checkpoints are, if not in the work folder.

        Raises:
            UserError: there are checkpoints, or a note of one, but a run can continue from none of them.
        """
        work_dir, failures = Path(work_dir), []
        for path in _candidates(work_dir, template, Path(folder or work_dir)):
            try:
                return cls.read(path, failures)
            except UserError as error:
                failures.append(str(error))
        note = work_dir / NOTE
        if not failures:
            if not note.is_file():
                return None
            failures = [f'{NOTE} names {note.read_text(errors="replace")!r}, which is not there']
        raise UserError(
            f'--resume: no checkpoint of {work_dir} can be continued from: {"; ".join(failures)}'
        )


def check_resumable(checkpoint: dict[str, Any], path: str | os.PathLike) -> None:
    """Raise UserError unless the checkpoint holds the state of a run, not only weights."""
    meta: Any = checkpoint.get('meta')
    parts = ('meta', 'message_hub', 'optimizer')
    missing = [key for key in parts if not isinstance(checkpoint.get(key), dict)]
    missing += [key for key in ('epoch', 'iter') if isinstance(meta, dict) and key not in meta]
    if missing:
        raise UserError(
            f'--resume {path}: it holds weights but not the state of a run ({", ".join(missing)} missing); '
            f'to start from these weights: --cfg-options load_from={path}'
        )
    for key in ('epoch', 'iter', 'seed'):
        value: Any = meta.get(key)
        if (key != 'seed' or value is not None) and not (is_count(value) and value < 2**32):
            raise UserError(f'--resume {path} is damaged: meta.{key} is {str(value)[:40]!r}')


def is_count(value: Any) -> bool:
    """Whether ``value`` is an integer >= 0."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0


def checkpoint_pattern(template: str, before: str = '') -> re.Pattern[str]:
    """A pattern for names made from ``template``, such as ``epoch_{}.pth``; the number is group 1."""
    head, _, rest = template.partition('{')
    return re.compile(f'{before}{re.escape(head)}(\\d+){re.escape(rest.partition("}")[2])}')


def _candidates(work_dir: Path, template: str, folder: Path) -> list[Path]:
    """Checkpoints in the order to try them: the noted one, those before it, those after it."""
    note = work_dir / NOTE
    text = note.read_text(errors='replace').strip() if note.is_file() else ''
    noted = Path(text.replace('\0', ''))
    first = [path for path in (work_dir / noted.name, noted) if path.is_file()][:1]
    pattern = checkpoint_pattern(template)
    folders = {work_dir, folder, *(path.parent for path in first)}
    matches = {path: pattern.fullmatch(path.name) for each in folders for path in each.glob('*')}
    numbers = {path: int(match[1]) for path, match in matches.items() if match}
    match = pattern.fullmatch(noted.name)
    last = int(match[1]) if match else math.inf  # a higher number may come from an earlier run
    others = sorted(numbers, key=lambda path: (numbers[path] > last, -numbers[path]))
    return [*first, *(path for path in others if path not in first)]


def _problem(tensor: Tensor) -> str:
    """Why a run cannot go on with it; '' if it can, even with a mask of zeros and infinities."""
    why = unusable(tensor)
    if why:
        return why
    finite = tensor.isfinite()
    fits = finite.all() or (finite.any() and not tensor[finite].any())
    return '' if fits else 'not finite'
