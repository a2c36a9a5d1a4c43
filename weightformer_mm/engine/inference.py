"""Predict on images without annotations and draw the result."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmcv
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, VISUALIZERS, init_default_scope
from mmengine.runner.checkpoint import load_state_dict
from tqdm import tqdm

from .checkpoint_check import check_matches, get_state_dict
from .class_check import trained_meta
from .config import innermost_dataset, load_config, require, type_name
from .drawing import draw, picture_name, use_visualizer
from .errors import UserError
from .folders import make_folder
from .image_guard import guard, image_problem
from .libraries import require_libraries
from .weight_sources import load_weights, use_safe_loading

IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')


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

    Args:
        config: path of the config.
        checkpoint: path of a checkpoint of exactly that model.
        source: an image or a folder. Files of a folder that are no images are passed over.
        out: folder of the pictures; they lie in it as the images lie in ``source``.
        device: such as 'cpu' or 'cuda:0'; default: a GPU where there is one.
        score_thr: detections below it are not drawn.
        options: ``KEY=VALUE`` changes to the config.

    Raises:
        UserError: bad input; also when some images could not be read, after all others are drawn.
    """
    use_safe_loading()
    source_path = Path(source).expanduser()
    images, others = find_images(source_path, Path(out).expanduser())
    cfg = load_config(config, options)
    require(cfg, ('model', 'test_dataloader'), 'inference')
    require_libraries(cfg.get('default_scope', 'mmengine'))
    weights = load_weights(checkpoint)
    out_dir = make_folder(out, '--out')
    target = _device(device)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    use_visualizer(cfg)
    model = _load_model(cfg, weights, checkpoint).to(target).eval()
    visualizer = VISUALIZERS.build({**cfg.visualizer, 'name': 'infer', 'vis_backends': None})
    visualizer.dataset_meta = trained_meta(weights, checkpoint, model) or _dataset_meta(cfg)
    pipeline = _pipeline(cfg)
    root = source_path if source_path.is_dir() else source_path.parent
    drawn, unread = [], []
    for path in tqdm(images, desc='infer', unit='image'):
        problem = image_problem(str(path))
        if problem is not None:
            unread.append(f'{path} ({problem})')
            continue
        sample = predict(model, pipeline, path)
        drawn.append(out_dir / picture_name(path.relative_to(root)))
        image = mmcv.imread(str(path), channel_order='rgb')
        draw(visualizer, image, sample, drawn[-1], False, score_thr)
    _report(drawn, unread, others, out_dir)
    return drawn


def find_images(source: Path, out: Path) -> tuple[list[Path], list[Path]]:
    """Images of ``source`` and its other files; ``out``, which may lie inside, is passed over."""
    if not source.exists():
        raise UserError(f'no such image or folder: {source}')
    if source.is_file():
        return [source], []
    files = sorted(
        path for path in source.rglob('*') if path.is_file() and not _hidden(path, source)
    )
    files = [path for path in files if out.absolute() not in path.absolute().parents]
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    others = [path for path in files if path.suffix.lower() not in IMAGE_SUFFIXES]
    if not images:
        what = f'{len(files)} files, none of them an image' if files else 'an empty folder'
        raise UserError(f'{source}: {what}; images end in {", ".join(IMAGE_SUFFIXES)}')
    return images, others


@torch.no_grad()
def predict(model: torch.nn.Module, pipeline: Compose, path: Path) -> Any:
    """The ``DetDataSample`` or ``SegDataSample`` of one image."""
    data = pipeline({'img_path': str(path), 'img_id': 0})
    return model.test_step(pseudo_collate([data]))[0]


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith('.') for part in path.relative_to(root).parts)


def _device(name: str | None) -> torch.device:
    try:
        device = torch.device(name or get_device())
    except RuntimeError as error:
        raise UserError(f'--device {name}: no such device; for example cpu or cuda:0') from error
    if device.type == 'cuda' and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f'--device {name}: this machine has {torch.cuda.device_count()} CUDA devices'
        )
    return device


def _load_model(cfg: Config, weights: dict[str, Any], checkpoint: str) -> torch.nn.Module:
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    check_matches(model, weights, checkpoint)
    load_state_dict(model, get_state_dict(weights, checkpoint), strict=True)
    return model


def _pipeline(cfg: Config) -> Compose:
    """The test pipeline, without the steps that load annotations."""
    steps = [
        step
        for step in copy.deepcopy(innermost_dataset(cfg.test_dataloader).pipeline)
        if 'Annotation' not in type_name(step)
    ]
    pipeline = Compose(steps)
    pipeline.transforms = [guard(transform) for transform in pipeline.transforms]
    return pipeline


def _dataset_meta(cfg: Config) -> dict[str, Any]:
    """Class names and colours of the config's data set."""
    dataset = innermost_dataset(cfg.test_dataloader)
    return DATASETS.build({**dataset, 'lazy_init': True}).metainfo


def _report(drawn: list[Path], unread: list[str], others: list[Path], out_dir: Path) -> None:
    if others:
        names = ', '.join(path.name for path in others[:3]) + (', ...' if len(others) > 3 else '')
        print(f'passed over {len(others)} files that are no images: {names}')
    if drawn:
        print(f'{len(drawn)} pictures in {out_dir}')
    sys.stdout.flush()
    if unread:
        names = ', '.join(unread[:3]) + (', ...' if len(unread) > 3 else '')
        rest = f'; the other {len(drawn)} are drawn in {out_dir}' if drawn else ''
        raise UserError(f'cannot read {len(unread)} of the images: {names}{rest}')
