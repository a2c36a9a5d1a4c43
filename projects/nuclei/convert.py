"""One folder per picture, with a mask per nucleus, to ``{train,val}/*.png`` and ``{train,val}.json``."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from tqdm import tqdm

from weightformer_mm.datasets.generated import work_folder, write_image
from weightformer_mm.errors import UserError


@dataclass
class Converted:
    """What was converted.

    Attributes:
        pictures: number of pictures of each split.
        nuclei: number of nuclei of each split.
        empty: masks without a pixel, which are left out.
    """

    pictures: dict[str, int]
    nuclei: dict[str, int]
    empty: int = 0


def convert_nuclei(
    source: str | os.PathLike,
    out: str | os.PathLike,
    val_share: float = 0.1,
    seed: int = 0,
    progress: bool = True,
) -> Converted:
    """Convert all pictures of a folder; ``out`` appears when everything is written, or not at all.

    Args:
        source: a folder for each picture, in it ``images/<id>.png`` (grey, RGB or RGBA) and ``masks/*.png``:
            one channel of the picture's size for each nucleus, 0 outside it.
        out: the new folder, which a config calls ``data_root``. Grey pictures get one channel.
        val_share: share of the pictures that go to ``val``, between 0 and 1; at least one goes to each split.
        seed: another one gives another split.
        progress: show a progress bar.

    Raises:
        UserError: a value is out of range, ``source`` has another layout, ``out`` holds something, or a file
            cannot be read or written.
    """
    source, out = Path(source).expanduser(), Path(os.path.realpath(Path(out).expanduser()))
    splits = split(picture_folders(source), val_share, seed)
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f'{out} is not an empty folder; choose another --out')
        out.parent.mkdir(parents=True, exist_ok=True)
        with work_folder(out) as work:
            new = work / 'new'
            new.mkdir()
            converted = write(new, splits, progress)
            os.rename(new, out)
    except OSError as error:
        raise UserError(f'{error.filename or out}: {error.strerror}') from error
    return converted


def picture_folders(source: Path) -> list[Path]:
    """The folders of the pictures, by name; UserError if there are none."""
    if not source.is_dir():
        raise UserError(f'no folder {source}')
    folders = [path for path in source.iterdir() if path.is_dir() and path.name[0] not in '._']
    if not folders:
        raise UserError(f'{source} has no folders; the layout is <id>/images/<id>.png')
    return sorted(folders)


def split(folders: Sequence[Path], val_share: float, seed: int) -> dict[str, list[Path]]:
    """Divide pictures at random into ``train`` and ``val``, each in the order of its names."""
    if not 0 < val_share < 1:
        raise UserError(f'val-share must lie between 0 and 1, got {val_share}')
    if len(folders) < 2:
        raise UserError(f'one picture ({folders[0]}) cannot be split')
    number = min(max(round(val_share * len(folders)), 1), len(folders) - 1)
    val = set(random.Random(seed).sample(folders, number))
    return {
        'train': [folder for folder in folders if folder not in val],
        'val': [folder for folder in folders if folder in val],
    }


def write(out: Path, splits: dict[str, list[Path]], progress: bool) -> Converted:
    """Write pictures and annotation files of all splits below ``out``."""
    converted = Converted({name: len(folders) for name, folders in splits.items()}, {})
    total = sum(converted.pictures.values())
    with tqdm(total=total, desc='nuclei', unit='image', disable=not progress) as bar:
        for name, folders in splits.items():
            (out / name).mkdir()
            images, annotations = [], []
            for image_id, folder in enumerate(folders, start=1):
                path, picture = read_picture(folder)
                write_image(out / name / path.name, picture)
                height, width = picture.shape[:2]
                images.append(dict(id=image_id, file_name=path.name, width=width, height=height))
                for mask in masks(folder, (height, width)):
                    if mask.any():
                        number = len(annotations) + 1
                        annotations.append(dict(id=number, image_id=image_id, **annotate(mask)))
                    else:
                        converted.empty += 1
                bar.update()
            converted.nuclei[name] = len(annotations)
            categories = [dict(id=1, name='nucleus')]
            content = dict(images=images, annotations=annotations, categories=categories)
            (out / f'{name}.json').write_text(json.dumps(content), encoding='utf-8')
    return converted


def read_picture(folder: Path) -> tuple[Path, np.ndarray]:
    """The file of a folder's picture, and the picture: uint8 ``(H, W)`` if grey, else BGR ``(H, W, 3)``."""
    files = sorted((folder / 'images').glob('*.png'))
    if len(files) != 1:
        raise UserError(f'{folder / "images"} must have one PNG, has {len(files)}')
    picture = read(files[0])
    if picture.ndim == 3:
        picture = picture[..., :3]  # without transparency
        if (picture == picture[..., :1]).all():
            picture = picture[..., 0]
    return files[0], picture


def masks(folder: Path, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """The masks of a folder, bool ``(H, W)``, by the names of their files."""
    files = sorted((folder / 'masks').glob('*.png'))
    if not files:
        raise UserError(f'{folder / "masks"} has no masks (*.png)')
    for file in files:
        mask = read(file)
        if mask.shape != size:
            found, expected = ('x'.join(map(str, shape)) for shape in (mask.shape, size))
            raise UserError(f'{file}: the mask has {found} pixels, its picture has {expected}')
        yield mask > 0


def annotate(mask: np.ndarray) -> dict:
    """The annotation of a nucleus, bool ``(H, W)``: compressed run lengths, area and box in pixels."""
    code = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return dict(
        category_id=1,
        iscrowd=0,
        area=int(coco_mask.area(code)),
        bbox=coco_mask.toBbox(code).tolist(),
        segmentation=dict(size=list(mask.shape), counts=code['counts'].decode('ascii')),
    )


def read(path: Path) -> np.ndarray:
    """An image with the channels that its file has; UserError if there is none in it."""
    data = np.frombuffer(path.read_bytes(), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if image is None or image.dtype != np.uint8:
        raise UserError(f'{path}: not an image of 8 bits, or damaged')
    return image
