"""Models with their weights, and what they see in images without annotations, as data samples."""

from __future__ import annotations

import copy
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Union

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from ..checkpoints.match import weights_to_predict
from ..checkpoints.schemes import use_safe_loading
from ..checkpoints.sources import WEIGHTS, load_weights
from ..config.read import find_recipe, innermost_dataset, load_config, require, type_name
from ..datasets.checks.classes import trained_meta
from ..datasets.checks.named_loading import NamedLoading, guard
from ..engine.optimizers.amp import half_precision
from ..engine.runner.loops import split_by_size
from ..errors import UserError
from .exported_model import ExportedModel, is_exported
from .strips import check_strips, predict_in_strips

Image = Union[str, os.PathLike, np.ndarray]


def init_model(
    config: str | os.PathLike | Config,
    checkpoint: str | os.PathLike | None = None,
    device: str | None = None,
    options: Sequence[str] = (),
) -> nn.Module:
    """Build a detector, segmentor or classifier for `inference`, in evaluation mode.

    Args (the others: see `weightformer_mm.apis`):
        checkpoint: None means the weights that ship with the recipe ``config``, if it is the name of one that
            has them; otherwise the weights stay at random. An ``.onnx`` file of `export` gives a model that
            only predicts.
        device: such as 'cpu' or 'cuda:0'; default: a GPU if there is one.

    Returns:
        The model. It has ``cfg`` and ``dataset_meta`` (names and colours of its classes), like a model of
        mmdet's ``init_detector`` and mmseg's ``init_model``.
    """
    use_safe_loading()
    cfg = load_config(config, options)
    require(cfg, ('model', 'test_dataloader'), 'inference')
    if is_exported(checkpoint):
        if device not in (None, 'cpu'):
            raise UserError(f'--device {device}: {checkpoint} runs on the CPU')
        return ExportedModel(cfg, checkpoint)
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
    several = isinstance(images, (list, tuple))
    outcomes = Predictor(model, strips)(images if several else [images])
    samples = [achieved(outcome) for outcome in outcomes]
    return samples if several else samples[0]


class Predictor:
    """What `inference` does, by a test pipeline that is built once.

    Args:
        model, strips: as in `inference`.
        half: compute in half precision: see `half_precision`.

    Raises:
        UserError: there are no strips for the model, or no half precision on its device, or in its file.
    """

    def __init__(self, model: nn.Module, strips: bool = False, half: bool = False) -> None:
        if half and isinstance(model, ExportedModel):
            raise UserError(
                '--half: an exported file computes as it was written; take the checkpoint'
            )
        if strips:
            check_strips(model)
        self.strips = strips
        self._step = partial(predict_in_strips, model) if strips else model.test_step
        self._precision = half_precision(model) if half else nullcontext()
        self._scope = model.cfg.get('default_scope', 'mmengine')
        with DefaultScope.overwrite_default_scope(self._scope):
            steps = copy.deepcopy(innermost_dataset(model.cfg.test_dataloader).pipeline)
            self._pipeline = Compose([s for s in steps if 'Annotation' not in type_name(s)])
        self._transforms = [guard(transform) for transform in self._pipeline.transforms]
        mean = getattr(getattr(model, 'data_preprocessor', None), 'mean', None)
        self._channels = 1 if mean is None else mean.numel()  # one mean is for any number

    def __call__(self, images: Sequence[Image], batch_size: int = 1) -> Iterator[Any]:
        """Yield for each image its sample, or in its place the exception: see `achieved`.

        Of a batch, the images that the pipeline gives one size run together: none is padded to another.
        """
        for first in range(0, len(images), batch_size):
            yield from self._predict(images[first : first + batch_size])

    def load(self, image: Image) -> np.ndarray:
        """The pixels as the pipeline reads them, ``(H, W)`` or ``(H, W, channels)`` of any type."""
        if isinstance(image, np.ndarray):
            return image
        first = next(t for t in self._transforms if isinstance(t, NamedLoading))
        return first(_described(image))['img']

    def _predict(self, images: Sequence[Image]) -> list[Any]:
        outcomes = [attempt(self._prepare, image) for image in images]
        ready = [i for i, found in enumerate(outcomes) if not isinstance(found, Exception)]
        batch = pseudo_collate([outcomes[i] for i in ready]) if ready else None
        for indices, part in split_by_size(batch) if batch else ():
            places = [ready[i] for i in indices]
            found = attempt(self._run, part)
            if isinstance(found, Exception) and len(places) == 1:
                found = [found]
            elif isinstance(found, Exception):  # whose is it? and one image may fit into memory
                found = [self._predict([images[i]])[0] for i in places]
            for place, outcome in zip(places, found):
                outcomes[place] = outcome
        return outcomes

    def _prepare(self, image: Image) -> dict[str, Any]:
        data, self._pipeline.transforms = _described(image), self._transforms
        if 'img' in data:
            steps = [t for t in self._transforms if not isinstance(t, NamedLoading)]
            self._pipeline.transforms = steps
        with DefaultScope.overwrite_default_scope(self._scope):
            prepared = self._pipeline(data)
        channels = len(prepared['inputs'])
        if self._channels not in (1, channels):
            raise UserError(
                f'channels: {channels}; the data preprocessor has means of {self._channels}'
            )
        return prepared

    @torch.no_grad()
    def _run(self, batch: dict[str, Any]) -> Sequence[Any]:
        with DefaultScope.overwrite_default_scope(self._scope), self._precision:
            return self._step(batch)


def achieved(outcome: Any) -> Any:
    """The ``outcome`` of a `Predictor`, which is raised if it is an exception."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns or the exception that it raises."""
    try:
        return function(*arguments)
    except Exception as error:
        traceback.clear_frames(error.__traceback__)  # they keep the memory of the batch
        return error


def _described(image: Image) -> dict[str, Any]:
    """What a pipeline starts with, or for an array what it has after loading."""
    if not isinstance(image, np.ndarray):
        return {'img_path': os.fspath(image), 'img_id': 0}
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise UserError(f'an image is (H, W, 3) of uint8, not {image.shape} of {image.dtype}')
    size = image.shape[:2]
    return {'img': image, 'img_path': None, 'img_id': 0, 'img_shape': size, 'ori_shape': size}
