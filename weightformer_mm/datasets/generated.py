"""Folders of generated data: made whole or not at all, recognised later, never mixed with user files."""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from re import Pattern

import cv2
import numpy as np
from filelock import FileLock, Timeout
from tqdm import tqdm

from ..errors import UserError
from ..utils.interrupts import uninterrupted

MANIFEST, MARKER = 'manifest.json', 'GENERATED.txt'
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Generator:
    """Makes data sets of one kind and recognises their folders.

    Attributes:
        name: dotted name, which the manifest and the marker file state.
        tool: command-line tool that makes such sets.
        files: matches the relative name of every file and folder of a set except its manifest and marker.
        version: to be increased whenever the same parameters give different files.
    """

    name: str
    tool: str
    files: Pattern[str]
    version: int = 1

    def make(
        self,
        out: str | os.PathLike,
        parameters: dict,
        write_files: Callable[[Path], Iterable[None]],
        force: bool = False,
        progress: bool = True,
    ) -> bool:
        """Make the set in the folder ``out`` unless it is already there.

        The files are written to a hidden folder beside ``out``, which a rename moves into place when all are
        complete. If a run is killed, the next one removes what it left.

        Args:
            out: the folder. A folder that holds anything else is never touched.
            parameters: JSON values that the files depend on, including the numbers ``train`` and ``val``.
            write_files: writes the set below the given folder, and yields after each picture.
            force: replace a different or damaged set of this generator.
            progress: show a progress bar.

        Returns:
            True if the set was made, False if it was already there.

        Raises:
            UserError: ``out`` holds something else, another run is writing it, or a file cannot be written.
        """
        out = Path(os.path.realpath(os.path.expanduser(out)))
        manifest = self._read_manifest(out)
        if not force and manifest is not None and manifest == self._manifest(out, parameters):
            return False
        try:
            self._check_replaceable(out, force)
            out.parent.mkdir(parents=True, exist_ok=True)
            with work_folder(out) as work:
                new = work / 'new'
                new.mkdir()
                total, name = parameters['train'] + parameters['val'], self.name.split('.')[-1]
                for _ in tqdm(write_files(new), name, total, unit='image', disable=not progress):
                    pass
                marker = f'{self.tool} may delete and remake this folder: keep nothing else here.\n'
                (new / MARKER).write_text(f'Made by {self.name}.\n{marker}', encoding='utf-8')
                manifest = json.dumps(self._manifest(new, parameters), indent=2)
                (new / MANIFEST).write_text(f'{manifest}\n', encoding='utf-8')
                self._check_replaceable(out, force)  # again: making the set took a while
                _replace(out, new, work / 'old')
        except OSError as error:
            raise UserError(f'cannot write the folder {out}: {error.strerror}') from error
        return True

    def _check_replaceable(self, out: Path, force: bool) -> None:
        """Raise unless ``out`` is absent, empty, or a set that this run may replace."""
        if not out.exists():
            return
        problem = next((f'holds {name}' for name in _names(out) if not self._owns(name)), None)
        if problem is None and any(out.iterdir()) and not (out / MARKER).is_file():
            problem = f'has no {MARKER}'
        if problem is not None:
            raise UserError(
                f'{out} {problem}: this generator did not make it; it is left as it is, choose another --out'
            )
        manifest = self._read_manifest(out)
        if manifest is not None and not force:
            facts = {'version': manifest.get('version'), **manifest['parameters']}
            what = ', '.join(f'{name} {value}' for name, value in facts.items())
            raise UserError(
                f'{out} holds another set ({what}), or its files were changed or lost since it was made; '
                'use --force to replace it, or another --out'
            )

    def _owns(self, name: str) -> bool:
        return name in (MANIFEST, MARKER) or self.files.fullmatch(name) is not None

    def _manifest(self, folder: Path, parameters: dict) -> dict:
        """The manifest of a folder; its checksum covers the names and digests of the other files."""
        total = hashlib.sha256()
        for name in sorted(filter(self._owns, _names(folder))):
            if name != MANIFEST and (folder / name).is_file():
                digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
                total.update(f'{digest}  {name}\n'.encode())
        facts = {'generator': self.name, 'version': self.version, 'parameters': parameters}
        return {**facts, 'checksum': total.hexdigest()}

    def _read_manifest(self, folder: Path) -> dict | None:
        """The manifest in a folder; None if this generator wrote none there."""
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding='utf-8'))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        own = isinstance(manifest, dict) and manifest.get('generator') == self.name
        return manifest if own and isinstance(manifest.get('parameters'), dict) else None


def _replace(out: Path, new: Path, old: Path) -> None:
    """Move ``new`` to the place of ``out``; if that fails, ``out`` stays where it is."""
    with uninterrupted():
        if out.exists():
            os.rename(out, old)
        try:
            os.rename(new, out)
        except OSError:
            if old.exists():
                os.rename(old, out)
            raise


@contextmanager
def work_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside ``out``; UserError if another run has one."""
    lock, prefix = out.with_name(f'.{out.name}.lock'), f'.{out.name}.partial-'
    with ExitStack() as stack:
        try:
            stack.enter_context(FileLock(lock, timeout=0))
        except Timeout:
            raise UserError(f'another run is writing {out} now') from None
        try:
            for left in out.parent.glob(f'{glob.escape(prefix)}*'):  # by a run that was killed
                own = left.is_dir() and {path.name for path in left.iterdir()} <= {'new', 'old'}
                if own and not left.is_symlink():
                    logger.warning('removing what an interrupted run left in %s', left)
                    shutil.rmtree(left)
            with tempfile.TemporaryDirectory(prefix=prefix, dir=out.parent) as work:
                yield Path(work)
        finally:
            lock.unlink(missing_ok=True)  # before others can lock it


def _names(folder: Path, inside: str = '') -> Iterator[str]:
    """Relative names of all entries below a folder, read only as far as the caller iterates."""
    entries = sorted((folder / inside).iterdir())
    yield from (f'{inside}{entry.name}' for entry in entries)
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            yield from _names(folder, f'{inside}{entry.name}/')


def check_numbers(train: int, val: int, seed: int, most: int) -> None:
    """Raise a UserError if the seed or a number of pictures is out of range (at most ``most`` each)."""
    for name, count in (('train', train), ('val', val)):
        if not 0 <= count <= most:
            raise UserError(f'{name} must be between 0 and {most}, got {count}')
    if train + val == 0:
        raise UserError('train and val are both 0: there is nothing to make')
    if seed < 0:
        raise UserError(f'seed must not be negative, got {seed}')


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an image, uint8 ``(H, W)`` or BGR ``(H, W, 3)``, in the format that the suffix names."""
    # Not cv2.imwrite, which returns False when the disk is full instead of raising.
    _, data = cv2.imencode(path.suffix, image)
    path.write_bytes(data.tobytes())
