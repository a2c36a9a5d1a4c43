"""Making a whole set on disk, in one piece or not at all."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from weightformer_mm.datasets.shapes.errors import ShapesError
from weightformer_mm.datasets.shapes.manifest import (
    MARKER,
    VERSION,
    ShapesConfig,
    checksum,
    find_foreign,
    read_manifest,
    write_manifest,
    write_marker,
)
from weightformer_mm.datasets.shapes.writer import write_files

logger = logging.getLogger(__name__)


def make_shapes(
    out: str | os.PathLike, config: ShapesConfig, force: bool = False, progress: bool = True
) -> bool:
    """Make the set ``config`` in the folder ``out`` unless it is already there.

    The files are written to a hidden folder beside ``out``, which takes the place of ``out`` by one
    rename when all are complete. So a run that is stopped, however hard, leaves no half-written
    ``out``; the next run removes what it left beside it. A folder holding anything that the
    generator did not write is never touched.

    Returns:
        True if the set was made, False if it was there.

    Raises:
        ShapesError: ``out`` holds something else, or another run is writing it.
        OSError: a file cannot be written.
    """
    out = Path(os.path.realpath(os.path.expanduser(out)))
    if not force and _is_there(out, config):
        return False
    _check_replaceable(out, force)
    if out.exists() and any(out.iterdir()) and read_manifest(out) is None:
        logger.warning('%s is incomplete (it has no manifest): making it anew', out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ShapesError(f'{out}: a file stands where a folder is needed') from None
    with _partial_folder(out) as partial:
        write_marker(partial)
        write_files(partial, config, progress)
        write_manifest(partial, config)
        _check_replaceable(out, force)  # again: making the set took a while
        _replace(partial, out)
    return True


def _is_there(out: Path, config: ShapesConfig) -> bool:
    manifest = read_manifest(out)
    if manifest is None or not _same_request(manifest, config):
        return False
    if manifest.get('checksum') != checksum(out):
        raise ShapesError(
            f'{out}: files were changed or lost since the set was made; use --force to make it anew'
        )
    return True


def _same_request(manifest: dict, config: ShapesConfig) -> bool:
    return manifest.get('version') == VERSION and manifest.get('parameters') == config.parameters()


def _check_replaceable(out: Path, force: bool) -> None:
    """Raise unless ``out`` is absent, empty, or a set that this run may replace."""
    if not out.exists():
        return
    foreign = find_foreign(out)
    if foreign is not None:
        raise ShapesError(f'{out} {foreign}; it is left as it is, choose another --out')
    manifest = read_manifest(out)
    if manifest is not None and not force:
        raise ShapesError(
            f'{out} holds another set ({_describe(manifest)}); '
            'use --force to replace it, or another --out'
        )


def _describe(manifest: dict) -> str:
    parameters = manifest.get('parameters')
    if manifest.get('version') != VERSION or not isinstance(parameters, dict):
        return f'generator version {manifest.get("version")}, now {VERSION}'
    return ', '.join(f'{name} {value}' for name, value in parameters.items())


@contextmanager
def _partial_folder(out: Path) -> Iterator[Path]:
    """An empty folder beside ``out``, locked against other runs; gone afterwards unless renamed."""
    partial = out.with_name(f'.{out.name}.shapes-partial')
    lock = _lock_folder(partial)
    try:
        _clear(partial)
        if _aside(out).exists():
            _clear(_aside(out))
            _remove(_aside(out))
        try:
            yield partial
        finally:
            # Until this run has renamed it, the locked folder stands under this name.
            if _is_open_as(partial, lock):
                _remove(partial)
    finally:
        os.close(lock)


def _aside(out: Path) -> Path:
    """Where the old set stands while the new one takes its place."""
    return out.with_name(f'.{out.name}.shapes-old')


def _is_open_as(folder: Path, descriptor: int) -> bool:
    return folder.exists() and os.path.samestat(os.stat(folder), os.fstat(descriptor))


def _lock_folder(folder: Path) -> int:
    """Create a folder if need be and lock it; the lock ends with the process, however it ends."""
    while True:
        folder.mkdir(exist_ok=True)
        lock = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another run may have renamed or removed it between the two calls.
            if _is_open_as(folder, lock):
                return lock
        except BlockingIOError:
            os.close(lock)
            raise ShapesError(f'another run is writing this set now, in {folder}') from None
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def _clear(folder: Path) -> None:
    """Empty a folder that an interrupted run left."""
    foreign = find_foreign(folder)
    if foreign is not None:
        raise ShapesError(f'{folder} {foreign}; move it away first')
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


def _replace(partial: Path, out: Path) -> None:
    """Let ``partial`` take the place of ``out``, which is kept aside until that is done."""
    if not out.exists():
        os.rename(partial, out)
        return
    aside = _aside(out)
    os.rename(out, aside)
    try:
        os.rename(partial, out)
    except BaseException:
        os.rename(aside, out)
        raise
    _remove(aside)
