"""The pictures that travel: both real sets as JPEG, labels as they are, at most 25 MB together."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2

from weightformer_mm.datasets.generated import work_folder
from weightformer_mm.errors import UserError

MOST = 25 * 10**6  # bytes
IMAGES = '.jpg'  # suffix
QUALITIES = (95, 92, 90, 87, 85, 80, 75, 70, 65, 60, 50, 40, 30)
SPLITS = ('train', 'val')
SAMPLE = 10  # every so many pictures tell the size of all
_SUFFIXES = ('.png', '.jpg', '.jpeg')


@dataclass(frozen=True)
class Picture:
    """A picture, and where it goes.

    Attributes:
        target: path below the new folder.
    """

    source: Path
    target: Path

    def encode(self, quality: int) -> bytes:
        image = cv2.imread(str(self.source), cv2.IMREAD_UNCHANGED)
        if image is None:
            raise UserError(f'{self.source}: not a picture, or damaged')
        done, code = cv2.imencode(IMAGES, image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if not done:
            raise UserError(f'{self.source}: cannot be written as JPEG')
        return code.tobytes()


def images_of(folder: Path) -> int:
    """How many pictures a folder has."""
    return len(_pictures_in(folder))


def prepare(out: Path, camvid: Path, nuclei: Path, most: int = MOST) -> None:
    """Write both sets below ``out``, with the best quality that fits, and say what was written.

    Args:
        out: a new folder, which appears when everything is written, or not at all.
        camvid, nuclei: the ``data_root`` of the recipes in ``configs/camvid`` and ``configs/nuclei``.
        most: bytes of all files together.

    Raises:
        UserError: a folder or file is missing or damaged, ``out`` holds something, or nothing fits.
    """
    out = Path(os.path.realpath(Path(out).expanduser()))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f'{out} is not an empty folder; choose another one for --prepare')
    labels = {**_labels_of_camvid(camvid), **_annotations_of_nuclei(nuclei)}
    pictures = [*_pictures('camvid', camvid), *_pictures('nuclei', nuclei)]
    room = most - sum(map(len, labels.values()))
    quality, codes = _best(pictures, room)
    out.parent.mkdir(parents=True, exist_ok=True)
    with work_folder(out) as work:
        for target, content in {**labels, **codes}.items():
            path = work / 'new' / target
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if out.exists():
            out.rmdir()
        shutil.move(str(work / 'new'), out)
    size = sum(map(len, (*labels.values(), *codes.values())))
    print(f'{len(codes)} pictures, JPEG quality {quality}, {size / 1e6:.1f} MB with labels: {out}')


def _best(pictures: list[Picture], room: int) -> tuple[int, dict[Path, bytes]]:
    """The best quality with which all pictures take no more than ``room`` bytes, and their codes."""
    for quality in QUALITIES:
        sample = pictures[::SAMPLE]
        expected = sum(len(picture.encode(quality)) for picture in sample)
        if expected * len(pictures) / len(sample) > room * 1.05:
            continue
        codes = {picture.target: picture.encode(quality) for picture in pictures}
        if sum(map(len, codes.values())) <= room:
            return quality, codes
    raise UserError(f'{len(pictures)} pictures and their labels do not fit into {MOST / 1e6:g} MB')


def _pictures_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)


def _pictures(name: str, root: Path) -> Iterator[Picture]:
    for split in SPLITS:
        for path in _pictures_in(_folder(name, root, split)):
            yield Picture(path, Path(name, split, f'{path.stem}{IMAGES}'))


def _folder(name: str, root: Path, inside: str) -> Path:
    folder = root / inside
    if not folder.is_dir() or not any(folder.iterdir()):
        raise UserError(f'--{name} {root}: no pictures in {folder}; see configs/_base_/datasets')
    return folder


def _labels_of_camvid(root: Path) -> dict[Path, bytes]:
    return {
        Path('camvid', f'{split}annot', path.name): path.read_bytes()
        for split in SPLITS
        for path in sorted(_folder('camvid', root, f'{split}annot').glob('*.png'))
    }


def _annotations_of_nuclei(root: Path) -> dict[Path, bytes]:
    """The annotation files, with the names of the new pictures."""
    files = {}
    for split in SPLITS:
        path = root / f'{split}.json'
        try:
            content = json.loads(path.read_text(encoding='utf-8'))
            for image in content['images']:
                image['file_name'] = f'{Path(image["file_name"]).stem}{IMAGES}'
        except FileNotFoundError as error:
            raise UserError(f'--nuclei {root}: no file {path}') from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not annotations in COCO's format: {error}") from error
        files[Path('nuclei', path.name)] = json.dumps(content, separators=(',', ':')).encode()
    return files
