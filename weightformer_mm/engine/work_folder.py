"""The folder of a training: one run at a time in it, and the checkpoint that the next one continues from."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..checkpoints.match import unusable
from ..checkpoints.resumable import check_resumable
from ..checkpoints.sources import load_weights
from ..errors import UserError
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
    """Keep other trainings out of ``folder``; the first process of a distributed run does so for all.

    The lock is of the process and ends with it, however it ends; workers of data loaders do not inherit it.

    Raises:
        UserError: another training runs there.
    """
    ranks = (
        [os.environ[name] for name in _RANKS if name in os.environ] if launcher != 'none' else []
    )
    if fcntl is None or (ranks and ranks[0] != '0'):
        yield
        return
    with (folder / _LOCK).open('a+') as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            file.seek(0)
            raise UserError(
                f'{folder}: another training runs there ({file.read().strip()}); wait for it, stop it, or '
                'choose another --work-dir'
            ) from error
        except OSError:  # a file system without locks
            pass
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()}')
        file.flush()
        for partial in folder.glob(f'{PARTIAL}*'):  # a run that was killed left it
            if partial.is_file():
                partial.unlink()
        yield


@dataclass(frozen=True)
class Resumable:
    """A checkpoint that a run continues from.

    Attributes:
        path: its file.
        content: what is in it.
        passed_over: newer checkpoints that cannot be continued from, each with the reason.
    """

    path: Path
    content: dict[str, Any]
    passed_over: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: str | Path, passed_over: list[str] | None = None) -> Resumable:
        """Read the checkpoint at ``path``.

        Raises:
            UserError: it is missing or damaged, is not of a run, or holds numbers that are none.
        """
        path = Path(path).expanduser()
        content = load_weights(path)
        check_resumable(content, path)
        for part in ('state_dict', 'ema_state_dict', 'optimizer'):
            problem = _spoilt(content.get(part))
            if problem is not None:
                raise UserError(
                    f'{path}: {part} {problem}; the file is damaged, or the training had diverged'
                )
        return cls(path, content, passed_over or [])

    @classmethod
    def newest(
        cls, work_dir: str | Path, template: str = 'epoch_{}.pth', folder: str | Path | None = None
    ) -> Resumable | None:
        """The newest whole checkpoint of a work folder; None where there is none at all.

        Args:
            work_dir: may have been moved or copied since; checkpoints beside the note come first.
            template: names of checkpoints, with braces for the number.
            folder: where the checkpoints are, if not in the work folder.

        Raises:
            UserError: there are checkpoints, or a note of one, and none can be continued from.
        """
        work_dir, failures = Path(work_dir), []
        for path in candidates(work_dir, template, Path(folder or work_dir)):
            try:
                return cls.read(path, failures)
            except UserError as error:
                failures.append(str(error))
        if failures:
            raise UserError(
                f'--resume: no checkpoint of {work_dir} can be continued from: {"; ".join(failures)}'
            )
        note = work_dir / NOTE
        if not note.is_file():
            return None
        what = _noted(note)
        what = f'names {what}, which is not there' if what else 'is empty'
        raise UserError(f'{note} {what}; give --resume the path of a checkpoint')


def checkpoint_pattern(template: str, before: str = '') -> re.Pattern[str]:
    """What names made from ``template``, such as ``epoch_{}.pth``, look like; the number is group 1."""
    head, _, rest = template.partition('{')
    return re.compile(f'{before}{re.escape(head)}(\\d+){re.escape(rest.partition("}")[2])}')


def candidates(work_dir: Path, template: str, folder: Path) -> list[Path]:
    """Checkpoints in the order in which to try them: the noted one, those before it, those after it."""
    noted = _noted(work_dir / NOTE)
    first = [path for path in (work_dir / noted.name, noted) if path.is_file()][:1] if noted else []
    pattern = checkpoint_pattern(template)

    def number(path: Path) -> int:
        match = pattern.fullmatch(path.name)
        return int(match[1]) if match else -1

    folders = {work_dir, folder, *(path.parent for path in first)}
    others = [path for folder in folders for path in folder.glob('*') if number(path) >= 0]
    last = number(noted) if noted else -1
    if last >= 0:  # what has a higher number may be of an earlier run
        others.sort(key=lambda path: (number(path) > last, -number(path)))
    else:
        others.sort(key=number, reverse=True)
    return [*first, *(path for path in others if path not in first)]


def _spoilt(value: Any, name: str = '') -> str | None:
    """The first tensor below ``value`` that is none of finite numbers, and why; None if all are."""
    if isinstance(value, Tensor):
        why = unusable(value) or ('' if _is_finite(value) else 'not finite')
        return f'{name} is {why}' if why else None
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, (list, tuple)) else items
    found = (_spoilt(item, f'{name}.{key}' if name else str(key)) for key, item in items)
    return next((problem for problem in found if problem is not None), None)


def _is_finite(tensor: Tensor) -> bool:
    """Masks of zeros and infinities, which some models keep as buffers, count as finite."""
    finite = tensor.isfinite()
    is_mask = (
        bool(finite.any()) and not bool(tensor[finite].any()) and not bool(tensor.isnan().any())
    )
    return bool(finite.all()) or is_mask


def _noted(note: Path) -> Path | None:
    text = note.read_text(errors='replace').strip() if note.is_file() else ''
    return Path(text) if text and '\0' not in text else None
