"""Whole detectors and segmentors of config files, on made-up images and labels; no data set is needed."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from weightformer_mm.analysis.complexity import measure
from weightformer_mm.apis.complexity import for_counting
from weightformer_mm.config.read import load_config, require
from weightformer_mm.errors import UserError

from .steps import Case, Step, autocast, forget_gradients
from .subjects import Subject

OBJECTS = 8  # in each image


@dataclass(frozen=True)
class WholeModel(Subject):
    """The detector or segmentor of a config file.

    Attributes:
        config: path of the config.
        options: ``KEY=VALUE`` changes to it.
    """

    config: str
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return Path(self.config).stem

    def spec(self) -> dict[str, Any]:
        return {'config': self.config, 'options': list(self.options)}

    def build(self) -> nn.Module:
        cfg = load_config(self.config, self.options)
        require(cfg, ('model', 'default_scope'), 'the benchmark')
        scope = cfg.default_scope
        if scope not in _SAMPLES:
            raise UserError(
                f'{self.config}: default_scope={scope!r}; the benchmark runs configs of '
                f'{" and ".join(_SAMPLES)}'
            )
        with DefaultScope.overwrite_default_scope(scope):
            model = MODELS.build(ConfigDict(for_counting(cfg.model.to_dict())))
            if getattr(model, 'data_preprocessor', None) is None:
                raise UserError(f'{self.config}: its model is not a whole detector or segmentor')
            with quiet():
                model.init_weights()
        model.benchmark_scope = scope
        return revert_sync_batchnorm(model)

    def step(self, model: nn.Module, case: Case, device: torch.device) -> Step:
        """Preprocessing, then the losses and their gradients, or the predictions."""
        batch = make_batch(model.benchmark_scope, case)  # stays on the CPU
        model.train(case.mode == 'train')
        run = _train if case.mode == 'train' else _predict
        return Step(lambda: run(model, batch, device, case.dtype), lambda: forget_gradients(model))

    def multiply_adds(self, case: Case) -> int | None:
        if case.mode == 'train':  # losses work on different proposals from inference
            return None
        return measure(self.build(), case.size).total.multiply_adds * case.batch


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the log: initialisation and optimizers write a line for every parameter."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _train(model: nn.Module, batch: dict[str, Any], device: torch.device, dtype: str) -> None:
    with autocast(device, dtype):
        data = model.data_preprocessor(batch, training=True)
        losses = model(**data, mode='loss')
    loss, _ = model.parse_losses(losses)
    loss.backward()


def _predict(model: nn.Module, batch: dict[str, Any], device: torch.device, dtype: str) -> None:
    with torch.inference_mode(), autocast(device, dtype):
        data = model.data_preprocessor(batch, training=False)
        model(**data, mode='predict')


def make_batch(scope: str, case: Case) -> dict[str, Any]:
    """Random images as ``mmdet``'s or ``mmseg``'s data loaders give them, all labelled with class 0."""
    random = np.random.default_rng(case.seed)
    images, samples = [], []
    for index in range(case.batch):
        pixels = random.integers(0, 256, (3, *case.size), dtype=np.uint8)
        images.append(torch.from_numpy(pixels))
        samples.append(_SAMPLES[scope](case, random, _metainfo(case, index)))
    return {'inputs': images, 'data_samples': samples}


def _metainfo(case: Case, index: int) -> dict[str, Any]:
    sizes = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')
    flip = dict(scale_factor=(1.0, 1.0), flip=False, flip_direction=None)
    return dict(img_id=index, img_path='', **dict.fromkeys(sizes, case.size), **flip)


def _detection_sample(case: Case, random: np.random.Generator, metainfo: dict[str, Any]) -> Any:
    """Boxes of 1/8 to 1/2 of each side, masks that fill them."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    height, width = case.size
    sizes = random.uniform(1 / 8, 1 / 2, (OBJECTS, 2)) * (width, height)
    corners = random.uniform(0, 1, (OBJECTS, 2)) * ((width, height) - sizes)
    boxes = np.concatenate([corners, corners + sizes], axis=1).astype(np.float32)
    masks = np.zeros((OBJECTS, height, width), dtype=np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes):
        mask[int(top) : math.ceil(bottom), int(left) : math.ceil(right)] = 1
    instances = InstanceData(
        bboxes=torch.from_numpy(boxes),
        labels=torch.zeros(OBJECTS, dtype=torch.long),
        masks=BitmapMasks(masks, height, width),
    )
    ignored = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    return DetDataSample(metainfo=metainfo, gt_instances=instances, ignored_instances=ignored)


def _segmentation_sample(case: Case, random: np.random.Generator, metainfo: dict[str, Any]) -> Any:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    labels = PixelData(data=torch.zeros(1, *case.size, dtype=torch.long))
    return SegDataSample(metainfo=metainfo, gt_sem_seg=labels)


_SAMPLES: dict[str, Callable[..., Any]] = {
    'mmdet': _detection_sample,
    'mmseg': _segmentation_sample,
}
