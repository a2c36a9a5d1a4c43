"""What a model sees in images without annotations: as plain values, pictures, label images and JSON."""

from __future__ import annotations

import errno
import itertools
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.registry import VISUALIZERS, DefaultScope
from tqdm import tqdm

from ..checkpoints.match import some
from ..config.read import innermost_dataset
from ..datasets.checks.classes import build_unloaded
from ..datasets.checks.pixels import deep_pixels, image_problem
from ..errors import RunFailed, UserError
from ..evaluation.predictions import as_plain, label_name, write_labels
from ..utils import writing
from ..utils.translate import blame_run, explain
from ..visualization.drawing import draw, picture_name, use_visualizer, visible
from .labels import keep_labels
from .predictor import Image, Predictor, achieved, attempt, init_model

IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
PREDICTIONS = 'predictions.json'
# what can be saved, and how messages call it
_KINDS = {'picture': 'pictures', 'label': 'label images', 'json': 'predictions'}
_SHOWN = 10  # files that a message lists
# errors of cv2, numpy, torch and Python that one image's size or content can cause
_OF_THE_IMAGE = (cv2.error, OSError, ValueError, ArithmeticError, MemoryError, RuntimeError)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_numbers = itertools.count()  # mmengine keeps visualizers by name


class Inferencer:
    """A model whose predictions come as plain values and, in a folder, as pictures, label images and JSON.

    Arguments and errors are those of `init_model`; the attribute ``model`` is its model. With ``strips``, a
    segmentor labels huge images strip by strip: see `predict_in_strips`. With ``half``, the model computes
    in half precision: see `half_precision`.
    """

    def __init__(
        self,
        config: Any,
        checkpoint: Any = None,
        device: Any = None,
        options: Sequence[str] = (),
        strips: bool = False,
        half: bool = False,
    ) -> None:
        self.model = init_model(config, checkpoint, device, options)
        self._read = [path for path in (config, checkpoint) if isinstance(path, (str, os.PathLike))]
        keep_labels(self.model)  # what is saved needs no logits
        self._predictor = Predictor(self.model, strips, half)
        self._warned = False
        cfg = self.model.cfg
        use_visualizer(cfg)
        own = {'name': f'infer-{next(_numbers)}', 'vis_backends': None}
        self.visualizer = VISUALIZERS.build({**cfg.visualizer, '_scope_': cfg.default_scope, **own})
        self.visualizer.dataset_meta = self.model.dataset_meta

    def __call__(
        self,
        images: Image | Sequence[Image],
        out: Any = None,
        score_thr: float = 0.3,
        save: str | Sequence[str] = ('picture', 'json'),
        batch_size: int = 1,
        bands: Sequence[int] | None = None,
    ) -> list[dict[str, Any]]:
        """Predict; if there is an ``out``, also write there what ``save`` names.

        Args:
            images: as in `inference`, or a folder. Files in it that are not images are skipped.
            out: a folder, outside ``images``; it gets the same subfolders. Arrays are numbered.
            score_thr: detections below it are not drawn.
            save: some of 'picture'; 'label', for segmentors: a PNG of the classes in ``labels/``, as
                `evaluate` writes it; 'json': the list returned, in ``predictions.json``.
            batch_size: images that are loaded together; those of one size also run together.
            bands: the channels that pictures show as red, green and blue: see `visible`.

        Returns:
            For each image its path (or None) as ``image``, and what `as_plain` says.

        Raises:
            UserError: bad input, or a file in ``out`` would replace one that is read.
            RunFailed: some images have no prediction or could not be written; all others are written first.
                Or the disk is full.
        """
        save = (save,) if isinstance(save, str) else save
        self._check(save, batch_size)
        folder = None
        if not isinstance(images, (list, tuple, np.ndarray)):
            folder = Path(images).expanduser()
            images = find_images(folder)
        images = [images] if isinstance(images, np.ndarray) else images
        outcomes = self._predictor(images, batch_size)
        if out is None:
            return [self._plain(image, achieved(next(outcomes))) for image in images]
        self._check_bands(images, bands)
        shifted = 'label' in save and self._shifts_labels()
        names = _name_outputs(images, folder, Path(out).expanduser(), self._read, save)
        out = writing.make_folder(out, '--out')

        def write(image: Image, sample: Any, names: dict[str, Path]) -> dict[str, Any]:
            paths = {kind: writing.make_below(out, name) for kind, name in names.items()}
            if 'picture' in paths:
                self._draw(image, sample, paths['picture'], score_thr, bands)
            if 'label' in paths:
                with writing.written_whole(paths['label']) as partial:
                    write_labels(sample, partial, shifted)
            return self._plain(image, sample)

        return _write_all(images, outcomes, names, write, out, save)

    def _check(self, save: Sequence[str], batch_size: int) -> None:
        if not save or not set(save) <= set(_KINDS):
            given = ' '.join(map(str, save))
            raise UserError(f'--save {given}: expected some of {", ".join(_KINDS)}')
        if 'label' in save and not hasattr(self.model, 'with_decode_head'):
            raise UserError(f'--save label: {type(self.model).__name__} is no segmentor')
        if not isinstance(batch_size, int) or batch_size < 1:
            raise UserError(f'--batch-size {batch_size}: expected 1 or more')
        if self._predictor.strips and batch_size > 1:
            raise UserError(f'--batch-size {batch_size}: strips are of one image at a time')

    def _check_bands(self, images: Sequence[Image], bands: Sequence[int] | None) -> None:
        """Raise UserError if the first image, as far as it can be read, does not have the ``bands``."""
        if bands is None or not images:
            return
        pixels = attempt(self._predictor.load, images[0])
        if not isinstance(pixels, Exception):
            visible(pixels, bands=bands)

    def _shifts_labels(self) -> bool:
        """Whether the test data set has a ``reduce_zero_label``, so that its files number classes from 1."""
        cfg = self.model.cfg
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            dataset = build_unloaded(innermost_dataset(cfg.test_dataloader))
        return bool(getattr(dataset, 'reduce_zero_label', False))

    def _draw(
        self,
        image: Image,
        sample: Any,
        picture: Path,
        score_thr: float,
        bands: Sequence[int] | None,
    ) -> None:
        pixels = self._predictor.load(image)
        is_told = self._warned or isinstance(image, np.ndarray)
        deep = None if is_told else deep_pixels(str(image), pixels)
        if deep is not None and deep[1]:
            self._warned = True
            tqdm.write(f'{image}: {deep[0]}')
        draw(self.visualizer, visible(pixels, bands=bands), sample, picture, False, score_thr)

    def _plain(self, image: Image, sample: Any) -> dict[str, Any]:
        path = None if isinstance(image, np.ndarray) else str(image)
        return {'image': path, **as_plain(sample, self.model.dataset_meta.get('classes'))}


def _write_all(
    images: Sequence[Image],
    outcomes: Iterator[Any],
    names: Sequence[dict[str, Path]],
    write: Callable[..., dict],
    out_dir: Path,
    save: Sequence[str],
) -> list[dict[str, Any]]:
    """Write what belongs to each image; if that of one cannot be written, that of the others still is."""
    what, drawn = _KINDS[save[0]], 'drawn' if save[0] == 'picture' else 'written'
    written, reasons = [], []
    shown = tqdm(images, desc='infer', unit='image')
    for number, (image, own) in enumerate(zip(shown, names)):
        is_array = isinstance(image, np.ndarray)
        path = f'array {number}' if is_array else str(image)
        try:
            written.append(write(image, achieved(next(outcomes)), own))
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                raise RunFailed(
                    f'--out {error.filename or out_dir}: cannot write it: {error.strerror}; {len(written)} '
                    f'of {len(images)} {what} are in {out_dir}'
                ) from error
            problem = (None if is_array else image_problem(path)) or explain(error)
            if problem is None:
                if not isinstance(error, _OF_THE_IMAGE):
                    if not written:  # no image went through the config's parts yet
                        raise blame_run(error, 'model') from error
                    raise RuntimeError(f'fault with {_printable(path)}') from error
                problem = f'{type(error).__name__}: {error}'
            traceback.clear_frames(error.__traceback__)  # they keep this run's memory alive
            reasons.append(_printable(f'{path} ({" ".join(str(problem).split())})'))
            tqdm.write(f'not {drawn}: {reasons[-1]}', file=sys.stdout)
    if written:
        if 'json' in save:
            with writing.written_whole(out_dir / PREDICTIONS) as partial:
                partial.write_text(json.dumps(written) + '\n', encoding='utf-8')
        print(f'{len(written)} {what} in {out_dir}', flush=True)
    if reasons:
        rest = (
            f'the other {len(written)} are {drawn} in {out_dir}' if written else f'none is {drawn}'
        )
        verb = {'drawn': 'draw', 'written': 'write'}[drawn]
        raise RunFailed(f'cannot {verb} {len(reasons)} images: {some(reasons, _SHOWN)}; {rest}')
    return written


def find_images(source: Path) -> list[Path]:
    """The image ``source``, or those below a folder; hidden files and folders are ignored."""
    if not source.exists():
        raise UserError(f'no such image or folder: {source}')
    if source.is_file():
        return [source]
    if not source.is_dir():  # a pipe would never end
        raise UserError(f'{source} is neither a file nor a folder')
    found = (
        Path(folder, n) for folder, _, names in os.walk(source, onerror=_refuse) for n in names
    )
    files = sorted(path for path in found if path.is_file())
    images = [
        path
        for path in files
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith('.') for part in path.relative_to(source).parts)
    ]
    if not images:
        what = f'{len(files)} files, none of them an image' if files else 'an empty folder'
        raise UserError(f'{source}: {what}; images end in {", ".join(IMAGE_SUFFIXES)}')
    return images


def _refuse(error: OSError) -> None:
    raise UserError(f'{error.filename} cannot be read: {error.strerror}') from error


def _name_outputs(
    images: Sequence[Image],
    folder: Path | None,
    out: Path,
    inputs: Sequence[str | os.PathLike],
    save: Sequence[str],
) -> list[dict[str, Path]]:
    """For each image the names of its picture and its labels below ``out``, as far as ``save`` has them.

    UserError if a file there would replace what is read.
    """
    read = [Path(image) for image in images if not isinstance(image, np.ndarray)]
    in_folder = folder is not None and folder.is_dir()
    parents = [path.parent.absolute() for path in read] or [out.absolute()]
    root = folder.absolute() if in_folder else Path(os.path.commonpath(parents))
    sources = [
        root / f'{i:06}.png' if isinstance(v, np.ndarray) else Path(v).absolute()
        for i, v in enumerate(images)
    ]
    found: dict[str, dict[Path, Path]] = {}
    if 'picture' in save:
        found['picture'] = writing.name_outputs(sources, root, picture_name)
    if 'label' in save:
        pictures = found.get('picture', {}).values()
        found['label'] = writing.name_outputs(sources, root, label_name, pictures)
    names = [{kind: named[source] for kind, named in found.items()} for source in sources]
    below = [name for own in names for name in own.values()]
    targets = [out / name for name in below]
    summary = [out / PREDICTIONS] if 'json' in save else []
    writing.refuse_replacing('--out', [*targets, *summary], [*read, *inputs])
    writing.refuse_links(out, below)
    if in_folder:
        writing.refuse_inside('--out', {out, *(target.parent for target in targets)}, [root])
    elif read and writing.same_file(out, root):
        raise UserError(f'--out {out}: the folder of the image itself; choose another')
    return names


def _printable(text: str) -> str:
    """``text`` in printable form: a file name may hold bytes that are not text."""
    return text.encode(errors='backslashreplace').decode()
