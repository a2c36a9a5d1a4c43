"""How a run writes: never over what it reads, never through a link, every file whole or not at all."""

from __future__ import annotations

import errno
import itertools
import os
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import UserError

PARTIAL = '.partial-'  # prefix of temporary folders that hold one unfinished file


def make_folder(path: str | os.PathLike, option: str) -> Path:
    """Make the folder if needed and return its absolute path; UserError if nothing can be written there."""
    folder = Path(path).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f'{option} {folder}: cannot write there: {error.strerror}') from error
    return folder.absolute()


def make_below(folder: Path, name: Path) -> Path:
    """Make the folders for the file ``name`` below ``folder``; returns its path. See `refuse_links`."""
    refuse_links(folder, [name])
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def refuse_links(folder: Path, names: Iterable[Path]) -> None:
    """Raise UserError if a folder between ``folder`` and a file below it is a link, wherever it leads."""
    for part in {folder / parent for name in names for parent in name.parents} - {folder}:
        if part.is_symlink():
            raise UserError(f'{part} is a link; remove it, or choose another folder to write to')


def same_file(one: str | os.PathLike, other: str | os.PathLike) -> bool:
    """Whether both are the same file or folder, despite links or ``..``; False if one is missing."""
    found = _identity(one)
    return found is not None and found == _identity(other)


def lies_in(path: str | os.PathLike, folder: str | os.PathLike) -> bool:
    """Whether ``path``, which need not exist, is ``folder`` or would lie below it."""
    real = Path(os.path.realpath(path))
    return any(same_file(place, folder) for place in (real, *real.parents))


def refuse_replacing(option: str, targets: Iterable[Path], sources: Iterable[str | Path]) -> None:
    """Raise UserError if writing one of ``targets`` would replace one of the files that are read."""
    read = {_identity(path) for path in sources} - {None}
    for target in targets:
        if _identity(target) in read:
            raise UserError(f'{option} {target}: this file is read; choose another place'.lstrip())


def refuse_inside(option: str, targets: Iterable[Path], folders: Iterable[Path]) -> None:
    """Raise UserError if one of ``targets`` is, or would lie in, one of the folders that are read."""
    for target, folder in itertools.product(targets, folders):
        if lies_in(target, folder):
            raise UserError(f'{option} {target}: lies in {folder}, which is read; choose another')


def name_outputs(
    sources: Iterable[str | Path],
    root: str | Path,
    rename: Callable[[Path], Path],
    others: Iterable[Path] = (),
) -> dict[Path, Path]:
    """For each source its ``rename``d path below ``root``, no two alike, even ignoring case.

    Names that ``rename`` does not change are kept; others may get ``-2``, ``-3``, ... at the end. Every
    process finds the same names. ``others`` are names of files that these may not replace.
    """
    plain = {Path(source): Path(source).relative_to(root) for source in sources}
    wanted = {source: rename(name) for source, name in plain.items()}
    taken = {_folded(parent) for name in wanted.values() for parent in name.parents}
    taken |= {_folded(place) for name in others for place in (name, *name.parents)}
    names = {}
    for source in sorted(wanted, key=lambda source: (wanted[source] != plain[source], source)):
        name = free = wanted[source]
        numbers = itertools.count(2)
        while _folded(free) in taken:
            free = name.with_name(f'{name.stem}-{next(numbers)}{name.suffix}')
        taken.add(_folded(free))
        names[source] = free
    return names


@contextmanager
def written_whole(path: Path, replace: bool = True) -> Iterator[Path]:
    """A path to write to; the file replaces ``path`` if the block succeeds.

    It has the same name as ``path``, in a temporary folder beside it. It is on the disk before it is moved.
    If ``path`` is a link, the link is replaced, and what it points to is left alone.

    Raises:
        OSError: the file cannot be written, the block wrote nothing, or ``path`` exists and may not be
            replaced.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=path.parent) as folder:
            partial = Path(folder, path.name)
            yield partial
            if not partial.is_file() or not partial.stat().st_size:
                raise OSError(errno.EIO, 'nothing was written', str(path))
            _sync(partial)
            _place(partial, path, replace)
            with suppress(OSError):  # not every system can sync a folder
                _sync(path.parent)
    except OSError as error:
        if error.errno and PARTIAL in str(error.filename or PARTIAL):
            error.filename, error.filename2 = str(path), None  # the name that the user knows
        raise


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A temporary folder whose files move to ``folder`` when the block ends without an error."""
    with tempfile.TemporaryDirectory(prefix='.staged-', dir=folder) as stage:
        yield Path(stage)
        files = sorted(path for path in Path(stage).rglob('*') if path.is_file())
        for file in files:
            _sync(file)
        targets = [make_below(folder, file.relative_to(stage)) for file in files]
        for file, target in zip(files, targets):
            os.replace(file, target)
        for parent in {target.parent for target in targets}:
            with suppress(OSError):
                _sync(parent)


def _identity(path: str | os.PathLike) -> tuple[int, int] | None:
    """What all names of a file have in common; None if it is missing, or not on disk."""
    try:
        # ``new/..`` exists as soon as somebody makes ``new``
        found = os.stat(os.path.realpath(os.path.expanduser(path)))
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _folded(name: Path) -> str:
    return unicodedata.normalize('NFC', str(name)).casefold()


def _place(partial: Path, path: Path, replace: bool) -> None:
    if not replace:
        try:
            os.link(partial, path)  # unlike a check beforehand, this never replaces
            return
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
    os.replace(partial, path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
