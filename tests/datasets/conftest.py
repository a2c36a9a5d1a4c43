from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope='session')
def read_tree():
    """A function that gives the bytes of every file below a folder, by relative name."""

    def read(folder: Path) -> dict[str, bytes]:
        files = (path for path in folder.rglob('*') if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    return read
