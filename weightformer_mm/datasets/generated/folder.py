"""Making a whole set on disk, in one piece or not at all."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from weightformer_mm.datasets.generated.manifest import MARKER, Generator

logger = logging.getLogger(__name__)


def make_folder_once(
    out: str | os.PathLike,
    generator: Generator,
    parameters: dict,
    write_files: Callable[[Path], None],
    force: bool = False,
) -> bool:
    """Make the set of these parameters in the folder ``out`` unless it is already there.

    The files are written to a hidden folder beside ``out``, which takes the place of ``out`` by one
    rename when all are complete. So a run that is stopped, however hard, leaves no half-written
    ``out``; the next run removes what it left beside it. A folder holding anything that the
    generator did not write is never touched.

    Args:
        out: the folder.
        generator: whose files these are.
        parameters: what the files depend on, as JSON holds it.
        write_files: writes all files of the set below the folder it is given.
        force: replace another or a damaged set of the same generator.

    Returns:
        True if the set was made, False if it was there.

    Raises:
        UserError: of the generator's class; ``out`` holds something else, or another run is writing it.
        OSError: a file cannot be written.
    """
    out = Path(os.path.realpath(os.path.expanduser(out)))
    if not force and _is_there(out, generator, parameters):
        return False
    _check_replaceable(out, generator, force)
    if out.exists() and any(out.iterdir()) and generator.read_manifest(out) is None:
        logger.warning('%s is incomplete (it has no manifest): making it anew', out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise generator.error(f'{out}: a file stands where a folder is needed') from None
    with _partial_folder(out, generator) as partial:
        generator.write_marker(partial)
        write_files(partial)
        generator.write_manifest(partial, parameters)
        _check_replaceable(out, generator, force)  # again: making the set took a while
        _replace(partial, out, generator)
    return True


def _is_there(out: Path, generator: Generator, parameters: dict) -> bool:
    manifest = generator.read_manifest(out)
    if manifest is None or not _same_request(manifest, generator, parameters):
        return False
    if manifest.get('checksum') != generator.checksum(out):
        raise generator.error(
            f'{out}: files were changed or lost since the set was made; use --force to make it anew'
        )
    return True


def _same_request(manifest: dict, generator: Generator, parameters: dict) -> bool:
    return manifest.get('version') == generator.version and manifest.get('parameters') == parameters


def _check_replaceable(out: Path, generator: Generator, force: bool) -> None:
    """Raise unless ``out`` is absent, empty, or a set that this run may replace."""
    if not out.exists():
        return
    foreign = generator.find_foreign(out)
    if foreign is not None:
        raise generator.error(f'{out} {foreign}; it is left as it is, choose another --out')
    manifest = generator.read_manifest(out)
    if manifest is not None and not force:
        raise generator.error(
            f'{out} holds another set ({_describe(manifest, generator)}); '
            'use --force to replace it, or another --out'
        )


def _describe(manifest: dict, generator: Generator) -> str:
    version, parameters = manifest.get('version'), manifest.get('parameters')
    if version != generator.version or not isinstance(parameters, dict):
        return f'generator version {version}, now {generator.version}'
    return ', '.join(f'{name} {value}' for name, value in parameters.items())


@contextmanager
def _partial_folder(out: Path, generator: Generator) -> Iterator[Path]:
    """An empty folder beside ``out``, locked against other runs; gone afterwards unless renamed."""
    partial = out.with_name(f'.{out.name}.{generator.short_name}-partial')
    lock = _lock_folder(partial, generator)
    try:
        _clear(partial, generator)
        aside = _aside(out, generator)
        _check_no_link(aside, generator)
        if aside.exists():
            _clear(aside, generator)
            _remove(aside)
        try:
            yield partial
        finally:
            # Until this run has renamed it, the locked folder stands under this name.
            if _is_open_as(partial, lock):
                _remove(partial)
    finally:
        os.close(lock)


def _aside(out: Path, generator: Generator) -> Path:
    """Where the old set stands while the new one takes its place."""
    return out.with_name(f'.{out.name}.{generator.short_name}-old')


def _check_no_link(path: Path, generator: Generator) -> None:
    if path.is_symlink():
        raise generator.error(f'{path} is a link, which no run has put there; move it away')


def _is_open_as(folder: Path, descriptor: int) -> bool:
    return folder.exists() and os.path.samestat(os.stat(folder), os.fstat(descriptor))


def _lock_folder(folder: Path, generator: Generator) -> int:
    """Create a folder if need be and lock it; the lock ends with the process, however it ends."""
    while True:
        _check_no_link(folder, generator)
        folder.mkdir(exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another run may have renamed or removed it between the two calls.
            if _is_open_as(folder, lock):
                return lock
        except BlockingIOError:
            os.close(lock)
            raise generator.error(f'another run is writing this set now, in {folder}') from None
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def _clear(folder: Path, generator: Generator) -> None:
    """Empty a folder that an interrupted run left."""
    foreign = generator.find_foreign(folder)
    if foreign is not None:
        raise generator.error(f'{folder} {foreign}; move it away first')
    if any(folder.iterdir()):
        logger.warning('removing what an interrupted run left in %s', folder)
    _remove_content(folder)


def _remove(folder: Path) -> None:
    _remove_content(folder)
    folder.rmdir()


def _remove_content(folder: Path) -> None:
    """Empty a folder, the marker last: interrupted here too, it is still known as ours."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name == MARKER):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _replace(partial: Path, out: Path, generator: Generator) -> None:
    """Let ``partial`` take the place of ``out``, which is kept aside until that is done."""
    if not out.exists():
        os.rename(partial, out)
        return
    aside = _aside(out, generator)
    os.rename(out, aside)
    try:
        os.rename(partial, out)
    except BaseException:
        os.rename(aside, out)
        raise
    _remove(aside)
