"""What a model is given: batches of a data loader after the data preprocessor, with their annotations."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, VISUALIZERS, init_default_scope
from mmengine.runner import set_random_seed
from tqdm import tqdm

from ..config.read import innermost_dataset, load_config, require, type_name
from ..datasets.checks.presence import check_data, refuse_data
from ..engine.runner.runner import CheckedRunner
from ..errors import UserError
from ..utils.translate import blame_run
from ..utils.writing import make_folder
from ..visualization.contact_sheet import write_contact_sheet
from ..visualization.drawing import draw_truth, use_visualizer, visible

_SUFFIXES = ('.png', '.jpg', '.jpeg')
_COLUMNS = 3
_SIDE = 320  # pixels, of an image on the sheet; its annotated copy is beside it


def browse(
    config: str,
    out: str,
    split: str = 'train',
    number: int = 12,
    seed: int = 0,
    options: Sequence[str] = (),
    data_root: str | None = None,
) -> Path:
    """Write a contact sheet ``image | image with its annotations`` and return its path.

    The images go through the data loader's sampler, wrappers and pipeline, and through the model's data
    preprocessor with its batch augmentations. Only the normalisation is undone. Padding is grey: the mean.

    Args (the others: see `weightformer_mm.apis`):
        out: the PNG or JPEG to write.
        split: 'train', 'val' or 'test'.
        number: images on the sheet.
        seed: seed of the sampler and the augmentations.
    """
    path = Path(out).expanduser()
    if path.suffix.lower() not in _SUFFIXES:
        raise UserError(f'--out {path}: a picture ends in {", ".join(_SUFFIXES)}')
    if number < 1:
        raise UserError(f'--num {number}: at least one image')
    cfg = load_config(config, options, data_root)
    require(cfg, ('model', f'{split}_dataloader'), f'browsing the {split} split')
    check_data(cfg, (split,))
    refuse_data(cfg, (split,), '--out', path.parent)
    path = make_folder(path.parent, '--out') / path.name
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    use_visualizer(cfg)
    set_random_seed(seed)
    fed = islice(_fed(cfg, split, seed), number)
    fed = list(tqdm(fed, f'browse {split}', number, unit='image'))
    if not fed:
        raise UserError(f'the {split} data loader of {cfg.filename} gives no batch')
    write_contact_sheet(*zip(*fed), path, _COLUMNS, _SIDE)
    print(f'{len(fed)} images of the {split} split: {path}')
    return path


def _fed(cfg: Config, split: str, seed: int) -> Iterator[tuple[tuple[np.ndarray, np.ndarray], str]]:
    """For each image of one epoch: the image, the image with its annotations, and a caption."""
    loader_cfg = copy.deepcopy(cfg[f'{split}_dataloader'])
    loader_cfg.update(num_workers=0, persistent_workers=False, pin_memory=False, drop_last=False)
    loader_cfg.pop('prefetch_factor', None)
    preprocessor = MODELS.build(cfg.model).data_preprocessor
    loader = CheckedRunner.build_dataloader(loader_cfg, seed=seed)
    visualizer = VISUALIZERS.build({**cfg.visualizer, 'name': 'browse', 'vis_backends': None})
    visualizer.dataset_meta = loader.dataset.metainfo
    at_original_size = split != 'train' and _annotated_after_resizing(loader_cfg)
    for batch in preprocessed(cfg, loader, preprocessor, split):
        for branch, values, sample in _each(batch):
            image = _visible(values, getattr(preprocessor, 'data_preprocessor', preprocessor))
            if at_original_size:
                height, width = sample.img_shape[:2]
                image = cv2.resize(image[:height, :width], sample.ori_shape[1::-1])
            name = Path(getattr(sample, 'img_path', None) or '').name
            caption = f'{branch}{name}  {image.shape[1]}x{image.shape[0]}'
            if 'gt_instances' in sample:
                caption += f', {len(sample.gt_instances)} objects'
            yield (image, draw_truth(visualizer, image, sample)), caption


def preprocessed(cfg: Config, loader: Any, preprocessor: Any, split: str) -> Iterator[dict]:
    """The batches of a loader as a model gets them; what goes wrong is the fault of the ``cfg``."""
    try:
        for number, batch in enumerate(loader):
            MessageHub.get_current_instance().update_info('iter', number)  # YOLOX resizes by it
            yield preprocessor(batch, split == 'train')
    except Exception as error:
        raise blame_run(error, f'{split}_dataloader') from error


def _each(data: dict) -> Iterator[tuple[str, torch.Tensor, Any]]:
    """Branch, image and sample of each image of a batch; semi-supervised models have several branches."""
    inputs, samples = data['inputs'], data['data_samples']
    if not isinstance(inputs, dict):
        inputs, samples = {'': inputs}, {'': samples}
    for branch in inputs:
        for values, sample in zip(inputs[branch], samples[branch]):
            yield f'{branch}: ' if branch else '', values, sample


def _visible(values: torch.Tensor, preprocessor: Any) -> np.ndarray:
    """``(channels, H, W)`` as the model sees it → ``(H, W, 3)`` uint8, RGB."""
    values = values.float()
    if getattr(preprocessor, '_enable_normalize', False):
        values = values * preprocessor.std.cpu() + preprocessor.mean.cpu()
    # images are loaded as BGR; a preprocessor that swaps the channels makes them RGB
    swaps = ('channel_conversion', '_channel_conversion', 'to_rgb')
    is_rgb = any(getattr(preprocessor, name, False) for name in swaps)
    return visible(values.permute(1, 2, 0).numpy(), is_rgb)


def _annotated_after_resizing(loader: Any) -> bool:
    """Whether the pipeline loads annotations after a resize; they are then in the original image's size."""
    names = [type_name(step) for step in innermost_dataset(loader).get('pipeline', [])]
    loads = [index for index, name in enumerate(names) if 'Annotation' in name]
    return bool(loads) and any('Resize' in name for name in names[: loads[0]])
