"""What a set on disk says about itself, and whether it is true."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from weightformer_mm.datasets.shapes.classes import CLASSES, CONTEXT_CLASSES
from weightformer_mm.datasets.shapes.context import STATIC_REACH, ContextRules
from weightformer_mm.datasets.shapes.errors import ShapesError

GENERATOR = 'weightformer_mm.datasets.shapes'
VERSION = 1  # raise it whenever the same parameters give other files
MANIFEST = 'manifest.json'
MARKER = 'GENERATED.txt'
MARKER_TEXT = (
    f'Made by {GENERATOR}.\n'
    'tools/make_shapes.py may delete and remake this folder: keep nothing else here.\n'
)

MIN_SIDE, MAX_SIDE = 64, 8192
MAX_IMAGES = 1_000_000  # file names have six digits

_OURS = re.compile(
    r'GENERATED\.txt|manifest\.json|images|annotations|(images|annotations)/(train|val)'
    r'|(images|annotations)/(train|val)/\d{6}\.png|annotations/instances_(train|val)\.json'
    r'|annotations/classes_(train|val)\.txt'
)


@dataclass(frozen=True)
class ShapesConfig:
    """What to make: numbers of pictures, their side in pixels, the seed, and which kind of pictures.

    Attributes:
        train, val: numbers of pictures.
        size: side of a picture in pixels.
        seed: another one gives another set.
        single: one object per picture.
        context: ContextShapes, see `context`.
        reach: of ContextShapes, the distance in pixels that every object keeps from the mark.
        cue_area: of ContextShapes, share of the picture of a small marker; None: a band.

    Raises:
        ShapesError: a value is out of range.
    """

    train: int = 400
    val: int = 80
    size: int = 256
    seed: int = 0
    single: bool = False
    context: bool = False
    reach: int = STATIC_REACH
    cue_area: float | None = None

    def __post_init__(self) -> None:
        for name in ('train', 'val'):
            count = getattr(self, name)
            if not 0 <= count <= MAX_IMAGES:
                raise ShapesError(f'{name} must be between 0 and {MAX_IMAGES}, got {count}')
        if self.train + self.val == 0:
            raise ShapesError('train and val are both 0: there is nothing to make')
        if not MIN_SIDE <= self.size <= MAX_SIDE:
            raise ShapesError(f'size must be between {MIN_SIDE} and {MAX_SIDE}, got {self.size}')
        if self.seed < 0:
            raise ShapesError(f'seed must not be negative, got {self.seed}')
        if self.context:
            if self.single:
                raise ShapesError('single and context are two kinds of sets: choose one')
            self.context_rules().check(self.size)
        elif (self.reach, self.cue_area) != (STATIC_REACH, None):
            raise ShapesError('reach and cue_area belong to context: give it as well')

    def context_rules(self) -> ContextRules | None:
        return ContextRules(self.reach, self.cue_area) if self.context else None

    def class_names(self) -> tuple[str, ...]:
        """The classes of the objects, in the order of their numbers."""
        return CONTEXT_CLASSES if self.context else CLASSES

    def parameters(self) -> dict:
        """The values as the manifest states them; kinds of sets that came later only where they are set."""
        values = asdict(self)
        if not self.single:
            del values['single']
        if not self.context:
            for name in ('context', 'reach', 'cue_area'):
                del values[name]
        return values


def _walk(folder: Path) -> Iterator[Path]:
    """All entries below a folder, outer ones first, read no further than the caller goes."""
    entries = sorted(folder.iterdir())
    yield from entries
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry)


def find_foreign(folder: Path) -> str | None:
    """Why a folder is not the generator's work alone, as words to follow its name.

    None if nothing speaks against it; an empty folder passes.
    """
    if not folder.is_dir():
        return 'is not a folder'
    names = (path.relative_to(folder).as_posix() for path in _walk(folder))
    strange = next((name for name in names if not _OURS.fullmatch(name)), None)
    if strange is not None:
        return f'holds {strange}, which this generator did not write'
    if any(folder.iterdir()) and not (folder / MARKER).is_file():
        return f'has no {MARKER}, so this generator did not make it'
    return None


def write_marker(folder: Path) -> None:
    (folder / MARKER).write_text(MARKER_TEXT, encoding='utf-8')


def checksum(folder: Path) -> str:
    """SHA-256 over the names and digests of the generator's files, the manifest aside."""
    files = {path.relative_to(folder).as_posix(): path for path in _walk(folder)}
    total = hashlib.sha256()
    for name in sorted(files):
        if name != MANIFEST and _OURS.fullmatch(name) and files[name].is_file():
            digest = hashlib.sha256(files[name].read_bytes()).hexdigest()
            total.update(f'{digest}  {name}\n'.encode())
    return total.hexdigest()


def write_manifest(folder: Path, config: ShapesConfig) -> None:
    manifest = {
        'generator': GENERATOR,
        'version': VERSION,
        'parameters': config.parameters(),
        'checksum': checksum(folder),
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + '\n', encoding='utf-8')


def read_manifest(folder: Path) -> dict | None:
    """The manifest of a set, or None where there is none that this generator wrote."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding='utf-8'))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    if not isinstance(manifest, dict) or manifest.get('generator') != GENERATOR:
        return None
    return manifest
