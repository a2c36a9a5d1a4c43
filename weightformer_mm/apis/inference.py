"""Predict on images without annotations and draw the result."""

from __future__ import annotations

import copy
import errno
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import mmcv
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, VISUALIZERS, init_default_scope
from mmengine.runner.checkpoint import load_state_dict
from tqdm import tqdm

from ..checkpoints.match import check_matches, get_state_dict, some
from ..checkpoints.schemes import use_safe_loading
from ..checkpoints.sources import load_weights
from ..config.read import innermost_dataset, load_config, require, type_name
from ..datasets.checks.classes import trained_meta
from ..datasets.guards.images import guard, image_problem
from ..errors import RunFailed, UserError
from ..utils import writing
from ..utils.translate import explain
from ..visualization.drawing import draw, picture_name, use_visualizer

_SHOWN = 10  # files that a message lists
IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
# errors of cv2, numpy, torch and Python that one image's size or content can cause
_OF_THE_IMAGE = (cv2.error, OSError, ValueError, ArithmeticError, MemoryError, RuntimeError)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def infer(
    config: str,
    checkpoint: str,
    source: str,
    out: str,
    device: str | None = None,
    score_thr: float = 0.3,
    options: Sequence[str] = (),
) -> list[Path]:
    """Draw the predictions for an image, or for all images below a folder, and return the pictures.

    Args (the others: see `weightformer_mm.apis`):
        source: an image or a folder. Files in a folder that are not images are skipped.
        out: folder of the pictures, outside ``source``; it gets the same subfolders as ``source``.
        device: such as 'cpu' or 'cuda:0'; default: a GPU if there is one.

    Raises:
        UserError: bad input, or a picture in ``out`` would replace a file that is read.
        RunFailed: some images could not be drawn; all others are drawn first. Or the disk is full.
    """
    use_safe_loading()
    source_path = Path(source).expanduser()
    images = find_images(source_path)
    names = _name_pictures(source_path, images, Path(out).expanduser(), (config, checkpoint))
    cfg = load_config(config, options)
    require(cfg, ('model', 'test_dataloader'), 'inference')
    weights = load_weights(checkpoint)
    out_dir = writing.make_folder(out, '--out')
    try:
        target = torch.empty(0, device=device or get_device()).device
    except (RuntimeError, AssertionError) as error:  # the latter from a torch without CUDA
        raise UserError(f'--device {device}: no such device here; such as cpu or cuda:0') from error
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    use_visualizer(cfg)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    check_matches(model, weights, checkpoint)
    load_state_dict(model, get_state_dict(weights, checkpoint), strict=True)
    model.to(target).eval()
    visualizer = VISUALIZERS.build({**cfg.visualizer, 'name': 'infer', 'vis_backends': None})
    dataset = {**innermost_dataset(cfg.test_dataloader), 'lazy_init': True}
    visualizer.dataset_meta = (
        trained_meta(weights, checkpoint, model) or DATASETS.build(dataset).metainfo
    )
    pipeline = _pipeline(cfg)

    @torch.no_grad()
    def draw_one(path: Path, picture: Path) -> None:
        data = pseudo_collate([pipeline({'img_path': str(path), 'img_id': 0})])
        sample = model.test_step(data)[0]
        image = mmcv.imread(str(path), channel_order='rgb')
        draw(visualizer, image, sample, picture, False, score_thr)

    return _draw_all(names, out_dir, draw_one)


def _draw_all(
    names: dict[Path, Path], out_dir: Path, draw_one: Callable[[Path, Path], None]
) -> list[Path]:
    """Draw all images; if one cannot be drawn, the others still are."""
    drawn, reasons = [], []
    for path in tqdm(sorted(names), desc='infer', unit='image'):
        picture = out_dir / names[path]
        try:
            draw_one(path, writing.make_below(out_dir, names[path]))
            drawn.append(picture)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                raise RunFailed(
                    f'--out {picture}: cannot write it: {error.strerror}; {len(drawn)} of {len(names)} '
                    f'pictures are in {out_dir}'
                ) from error
            problem = image_problem(str(path)) or explain(error)
            if problem is None:
                if not isinstance(error, _OF_THE_IMAGE):
                    raise RuntimeError(f'fault while drawing {_printable(str(path))}') from error
                problem = f'{type(error).__name__}: {error}'
            traceback.clear_frames(error.__traceback__)  # they keep this run's memory alive
            reasons.append(_printable(f'{path} ({" ".join(str(problem).split())})'))
            tqdm.write(f'not drawn: {reasons[-1]}', file=sys.stdout)
    if drawn:
        print(f'{len(drawn)} pictures in {out_dir}', flush=True)
    if reasons:
        rest = f'the other {len(drawn)} are drawn in {out_dir}' if drawn else 'none is drawn'
        raise RunFailed(f'cannot draw {len(reasons)} images: {some(reasons, _SHOWN)}; {rest}')
    return drawn


def find_images(source: Path) -> list[Path]:
    """The image ``source``, or those below a folder; hidden files and folders are ignored."""
    if not source.exists():
        raise UserError(f'no such image or folder: {source}')
    if source.is_file():
        return [source]
    files = [path for path in sorted(source.rglob('*')) if path.is_file()]
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


def _pipeline(cfg: Config) -> Compose:
    """The test pipeline, without the steps that load annotations."""
    steps = copy.deepcopy(innermost_dataset(cfg.test_dataloader).pipeline)
    pipeline = Compose([step for step in steps if 'Annotation' not in type_name(step)])
    pipeline.transforms = [guard(transform) for transform in pipeline.transforms]
    return pipeline


def _name_pictures(
    source: Path, images: list[Path], out: Path, inputs: Sequence[str]
) -> dict[Path, Path]:
    """Names of the pictures below ``out``; UserError if one would replace an input or lie among them."""
    root = source if source.is_dir() else source.parent
    names = writing.name_outputs(images, root, picture_name)
    pictures = [out / name for name in names.values()]
    writing.refuse_replacing('--out', pictures, [*images, *inputs])
    if source.is_dir():
        writing.refuse_inside('--out', {out, *(picture.parent for picture in pictures)}, [root])
        writing.refuse_links(out, names.values())
    elif writing.same_file(out, root):
        raise UserError(f'--out {out}: the folder of the image itself; choose another')
    return names


def _printable(text: str) -> str:
    """``text`` in printable form: a file name may hold bytes that are not text."""
    return text.encode(errors='backslashreplace').decode()
