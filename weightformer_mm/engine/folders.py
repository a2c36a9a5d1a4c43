"""Output folders: made early, so that a wrong one is known before hours of work."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError


def make_folder(path: str | os.PathLike, option: str) -> Path:
    """Make the folder if needed, and make sure that files can be written to it.

    Args:
        option: the command line option that named it, for the message.
    """
    folder = Path(path).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f'{option} {folder}: cannot write there: {error.strerror}') from error
    return folder.absolute()


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path beside ``path`` whose file takes the place of ``path`` if the block succeeds; same suffix."""
    partial = path.with_name(f'.partial-{os.getpid()}-{path.name}')
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A temporary folder whose files move to ``folder`` when the block ends without an error."""
    with tempfile.TemporaryDirectory(prefix='.partial-', dir=folder) as stage:
        yield Path(stage)
        for file in sorted(path for path in Path(stage).rglob('*') if path.is_file()):
            target = folder / file.relative_to(stage)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)
