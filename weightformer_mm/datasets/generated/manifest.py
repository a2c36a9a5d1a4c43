"""What a set on disk says about itself, and whether it is true."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from re import Pattern

from ...errors import UserError

MANIFEST = 'manifest.json'
MARKER = 'GENERATED.txt'


@dataclass(frozen=True)
class Generator:
    """Who makes a set, and how its folder is known again.

    Attributes:
        name: dotted name, which the manifest and the marker file state.
        short_name: part of the names of the hidden folders that stand beside a set while it is made.
        version: to be raised whenever the same parameters give other files.
        tool: command line that makes such sets.
        error: what is raised where the user is at fault.
        files: matches the whole relative name of every file and folder of a set, beside its manifest and
            marker.
    """

    name: str
    short_name: str
    version: int
    tool: str
    error: type[UserError]
    files: Pattern[str]

    def owns(self, name: str) -> bool:
        """Whether a set of this generator has a file or folder of this relative name."""
        return name in (MANIFEST, MARKER) or self.files.fullmatch(name) is not None

    def find_foreign(self, folder: Path) -> str | None:
        """Why a folder is not the generator's work alone, as words to follow its name.

        None if nothing speaks against it; an empty folder passes.
        """
        if not folder.is_dir():
            return 'is not a folder'
        names = (path.relative_to(folder).as_posix() for path in _walk(folder))
        strange = next((name for name in names if not self.owns(name)), None)
        if strange is not None:
            return f'holds {strange}, which this generator did not write'
        if not any(folder.iterdir()):
            return None
        if not (folder / MARKER).is_file():
            return f'has no {MARKER}, so this generator did not make it'
        return None

    def write_marker(self, folder: Path) -> None:
        text = (
            f'Made by {self.name}.\n'
            f'{self.tool} may delete and remake this folder: keep nothing else here.\n'
        )
        (folder / MARKER).write_text(text, encoding='utf-8')

    def checksum(self, folder: Path) -> str:
        """SHA-256 over the names and digests of the generator's files, the manifest aside."""
        files = {path.relative_to(folder).as_posix(): path for path in _walk(folder)}
        total = hashlib.sha256()
        for name in sorted(files):
            if name != MANIFEST and self.owns(name) and files[name].is_file():
                digest = hashlib.sha256(files[name].read_bytes()).hexdigest()
                total.update(f'{digest}  {name}\n'.encode())
        return total.hexdigest()

    def write_manifest(self, folder: Path, parameters: dict) -> None:
        manifest = {
            'generator': self.name,
            'version': self.version,
            'parameters': parameters,
            'checksum': self.checksum(folder),
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + '\n', encoding='utf-8')

    def read_manifest(self, folder: Path) -> dict | None:
        """The manifest of a set, or None where there is none that this generator wrote."""
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding='utf-8'))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        if not isinstance(manifest, dict) or manifest.get('generator') != self.name:
            return None
        return manifest


def _walk(folder: Path) -> Iterator[Path]:
    """All entries below a folder, outer ones first, read no further than the caller goes."""
    entries = sorted(folder.iterdir())
    yield from entries
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry)
