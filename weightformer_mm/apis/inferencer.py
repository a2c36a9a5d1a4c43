"""What a model sees in images without annotations: as data samples, pictures and JSON."""

from __future__ import annotations

import copy
import errno
import itertools
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Union

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, VISUALIZERS, DefaultScope
from mmengine.runner.checkpoint import load_state_dict
from torch import nn
from tqdm import tqdm

from ..checkpoints.match import some, weights_to_predict
from ..checkpoints.schemes import use_safe_loading
from ..checkpoints.sources import WEIGHTS, load_weights
from ..config.read import find_recipe, innermost_dataset, load_config, require, type_name
from ..datasets.checks.classes import trained_meta
from ..datasets.guards.images import NamedLoading, deep_pixels, guard, image_problem
from ..errors import RunFailed, UserError
from ..evaluation.predictions import as_plain
from ..utils import writing
from ..utils.translate import explain
from ..visualization.drawing import draw, picture_name, use_visualizer, visible
from .labels import keep_labels
from .strips import check_strips, predict_in_strips

Image = Union[str, os.PathLike, np.ndarray]
IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
PREDICTIONS = 'predictions.json'
_SHOWN = 10  # files that a message lists
# errors of cv2, numpy, torch and Python that one image's size or content can cause
_OF_THE_IMAGE = (cv2.error, OSError, ValueError, ArithmeticError, MemoryError, RuntimeError)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_numbers = itertools.count()  # mmengine keeps visualizers by name


def init_model(
    config: str | os.PathLike | Config,
    checkpoint: str | os.PathLike | None = None,
    device: str | None = None,
    options: Sequence[str] = (),
) -> nn.Module:
    """Build a detector, segmentor or classifier for `inference`, in evaluation mode.

    Args (the others: see `weightformer_mm.apis`):
        checkpoint: None means the weights that ship with the recipe ``config``, if it is the name of one that
            has them; otherwise the weights stay at random.
        device: such as 'cpu' or 'cuda:0'; default: a GPU if there is one.

    Returns:
        The model. It has ``cfg`` and ``dataset_meta`` (names and colours of its classes), like a model of
        mmdet's ``init_detector`` and mmseg's ``init_model``.
    """
    use_safe_loading()
    cfg = load_config(config, options)
    require(cfg, ('model', 'test_dataloader'), 'inference')
    if checkpoint is None:
        checkpoint = find_recipe(config, WEIGHTS)
    weights = {} if checkpoint is None else load_weights(checkpoint)
    try:
        target = torch.zeros(1, device=device or get_device())
        target.sum().item()
    except Exception as error:  # each kind of device fails in its own way where it is missing
        raise UserError(f'--device {device}: no such device here; such as cpu or cuda:0') from error
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
        if checkpoint is not None:
            load_state_dict(model, weights_to_predict(model, weights, checkpoint), strict=True)
        dataset = {**innermost_dataset(cfg.test_dataloader), 'lazy_init': True}
        meta = trained_meta(weights, checkpoint or '', model) or DATASETS.build(dataset).metainfo
    model.cfg, model.dataset_meta = cfg, meta
    return model.to(target.device).eval()


def inference(model: nn.Module, images: Image | Sequence[Image], strips: bool = False) -> Any:
    """What a model sees in one image or several, of any sizes.

    One image runs at a time: every output sees the whole image, so the padding of a batch would change it.

    Args:
        model: of `init_model`, mmdet's ``init_detector`` or mmseg's ``init_model``.
        images: a path, an array ``(H, W, 3)`` of uint8, BGR as OpenCV reads it, or a list of these.
        strips: label huge images strip by strip: see `predict_in_strips`.

    Returns:
        ``DetDataSample``, ``SegDataSample`` or mmpretrain's ``DataSample``; for a list, a list of them.

    Raises:
        UserError: a file or an array is no image, or there are no strips for the model.
    """
    predict, several = _predictor(model, strips)[0], isinstance(images, (list, tuple))
    return [predict(image) for image in images] if several else predict(images)


def _predictor(model: nn.Module, strips: bool) -> tuple[Callable[[Image], Any], Callable]:
    """What `inference` does with one image, and how it loads it, by a test pipeline that is built once."""
    if strips:
        check_strips(model)
    step = partial(predict_in_strips, model) if strips else model.test_step
    scope = model.cfg.get('default_scope', 'mmengine')
    with DefaultScope.overwrite_default_scope(scope):
        steps = copy.deepcopy(innermost_dataset(model.cfg.test_dataloader).pipeline)
        pipeline = Compose([step for step in steps if 'Annotation' not in type_name(step)])
    transforms = [guard(transform) for transform in pipeline.transforms]

    @torch.no_grad()
    def predict(image: Image) -> Any:
        data, pipeline.transforms = _described(image), transforms
        if 'img' in data:
            pipeline.transforms = [t for t in transforms if not isinstance(t, NamedLoading)]
        with DefaultScope.overwrite_default_scope(scope):
            return step(pseudo_collate([pipeline(data)]))[0]

    def load(image: Image) -> np.ndarray:
        if isinstance(image, np.ndarray):
            return image
        first = next(t for t in transforms if isinstance(t, NamedLoading))
        return first(_described(image))['img']

    return predict, load


def _described(image: Image) -> dict[str, Any]:
    """What a pipeline starts with, or for an array what it has after loading."""
    if not isinstance(image, np.ndarray):
        return {'img_path': os.fspath(image), 'img_id': 0}
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise UserError(f'an image is (H, W, 3) of uint8, not {image.shape} of {image.dtype}')
    size = image.shape[:2]
    return {'img': image, 'img_path': None, 'img_id': 0, 'img_shape': size, 'ori_shape': size}


class Inferencer:
    """A model whose predictions come as plain values and, in a folder, as pictures and JSON.

    Arguments and errors are those of `init_model`; the attribute ``model`` is its model. With ``strips``, a
    segmentor labels huge images strip by strip: see `predict_in_strips`.
    """

    def __init__(
        self,
        config: Any,
        checkpoint: Any = None,
        device: Any = None,
        options: Sequence[str] = (),
        strips: bool = False,
    ) -> None:
        self.model = init_model(config, checkpoint, device, options)
        self._read = [path for path in (config, checkpoint) if isinstance(path, (str, os.PathLike))]
        keep_labels(self.model)  # pictures and JSON need no logits
        self._predict_sample, self._load = _predictor(self.model, strips)
        self._warned = False
        cfg = self.model.cfg
        use_visualizer(cfg)
        own = {'name': f'infer-{next(_numbers)}', 'vis_backends': None}
        self.visualizer = VISUALIZERS.build({**cfg.visualizer, '_scope_': cfg.default_scope, **own})
        self.visualizer.dataset_meta = self.model.dataset_meta

    def __call__(
        self, images: Image | Sequence[Image], out: Any = None, score_thr: float = 0.3
    ) -> list[dict[str, Any]]:
        """Predict; if there is an ``out``, also draw and write ``predictions.json``, the list returned.

        Args:
            images: as in `inference`, or a folder. Files in it that are not images are skipped.
            out: a folder, outside ``images``; it gets the same subfolders. Arrays are numbered.
            score_thr: detections below it are not drawn.

        Returns:
            For each image its path (or None) as ``image``, and what `as_plain` says.

        Raises:
            UserError: bad input, or a picture in ``out`` would replace a file that is read.
            RunFailed: some images could not be drawn; all others are drawn first. Or the disk is full.
        """
        folder = None
        if not isinstance(images, (list, tuple, np.ndarray)):
            folder = Path(images).expanduser()
            images = find_images(folder)
        images = [images] if isinstance(images, np.ndarray) else images
        if out is None:
            return [self._predict(image, None, score_thr) for image in images]
        names = _name_pictures(images, folder, Path(out).expanduser(), self._read)
        out = writing.make_folder(out, '--out')
        return _draw_all(images, names, out, lambda *pair: self._predict(*pair, score_thr))

    def _predict(self, image: Image, picture: Path | None, score_thr: float) -> dict[str, Any]:
        sample = self._predict_sample(image)
        is_array = isinstance(image, np.ndarray)
        if picture is not None:
            pixels = self._load(image)
            deep = None if is_array or self._warned else deep_pixels(str(image), pixels)
            if deep is not None and deep[1]:
                self._warned = True
                tqdm.write(f'{image}: {deep[0]}')
            draw(self.visualizer, visible(pixels), sample, picture, False, score_thr)
        plain = as_plain(sample, self.model.dataset_meta.get('classes'))
        return {'image': None if is_array else str(image), **plain}


def _draw_all(
    images: Sequence[Image], names: Sequence[Path], out_dir: Path, predict: Callable[..., dict]
) -> list[dict[str, Any]]:
    """Draw all images; if one cannot be drawn, the others still are."""
    drawn, reasons = [], []
    for image, name in zip(tqdm(images, desc='infer', unit='image'), names):
        picture, path = out_dir / name, name if isinstance(image, np.ndarray) else image
        try:
            drawn.append(predict(image, writing.make_below(out_dir, name)))
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                raise RunFailed(
                    f'--out {picture}: cannot write it: {error.strerror}; {len(drawn)} of {len(images)} '
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
        with writing.written_whole(out_dir / PREDICTIONS) as partial:
            partial.write_text(json.dumps(drawn) + '\n', encoding='utf-8')
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


def _name_pictures(
    images: Sequence[Image], folder: Path | None, out: Path, inputs: Sequence[str | os.PathLike]
) -> list[Path]:
    """Names of the pictures below ``out``; UserError if a file there would replace what is read."""
    read = [Path(image) for image in images if not isinstance(image, np.ndarray)]
    in_folder = folder is not None and folder.is_dir()
    parents = [path.parent.absolute() for path in read] or [out.absolute()]
    root = folder.absolute() if in_folder else Path(os.path.commonpath(parents))
    sources = [
        root / f'{i:06}.png' if isinstance(v, np.ndarray) else Path(v).absolute()
        for i, v in enumerate(images)
    ]
    names = writing.name_outputs(sources, root, picture_name)
    pictures = [out / name for name in names.values()]
    writing.refuse_replacing('--out', [*pictures, out / PREDICTIONS], [*read, *inputs])
    writing.refuse_links(out, names.values())
    if in_folder:
        writing.refuse_inside('--out', {out, *(picture.parent for picture in pictures)}, [root])
    elif read and writing.same_file(out, root):
        raise UserError(f'--out {out}: the folder of the image itself; choose another')
    return [names[source] for source in sources]


def _printable(text: str) -> str:
    """``text`` in printable form: a file name may hold bytes that are not text."""
    return text.encode(errors='backslashreplace').decode()
