"""Receptive fields of a config's strategies, before and after training; ``tools/erf.py`` calls this."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Sequence
from pathlib import Path

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import initialize
from mmengine.registry import MODELS, init_default_scope
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from ..analysis.receptive_field import ReceptiveField, draw_receptive_fields, receptive_field
from ..backbones.strategies import strategy_options
from ..checkpoints.pretrained import load_pretrained
from ..config.read import as_list, load_config, require, type_name
from ..datasets.checks.pixels import image_problem
from ..errors import UserError
from ..utils.tables import markdown_table
from ..utils.writing import refuse_inside, refuse_replacing, written_whole
from .inferencer import find_images

BEFORE, AFTER = 'before training', 'after training'
AS_IN_CONFIG = 'config'
PLACEHOLDER = '{strategy}'
NOISE = 'noise'


def run_erf(
    config: str,
    out: str | os.PathLike,
    checkpoint: str | None = None,
    before_after: bool = False,
    strategies: Sequence[str] = (),
    images: str = NOISE,
    count: int = 20,
    size: tuple[int, int] = (256, 256),
    options: Sequence[str] = (),
) -> dict[str, dict[str, dict[str, float]]]:
    """Compute and draw the receptive fields, write the numbers beside the picture, and return them.

    Args (the others: see `weightformer_mm.apis`):
        config: path of a config whose ``model`` is a backbone or has one.
        out: the PNG; the numbers go to a JSON file of the same name.
        checkpoint: path for the trained network; ``{strategy}`` in it stands for the name of the column.
        before_after: draw two rows, the initialised and the trained network.
        strategies: one column each, as `strategy_options` reads them; default: the network of the config.
        images: an image, a folder of images, or ``'noise'``.
        count: how many images to average over.
        size: height and width in pixels that the images are resized to.

    Returns:
        Row → column → share of the energy beyond 25, 50 and 75 % of the image.
    """
    out = Path(out).expanduser()
    _check_output(out, [file for file in (config, checkpoint, images) if file not in (None, NOISE)])
    if before_after and checkpoint is None:
        raise UserError('--before-after needs the CHECKPOINT of the trained network')
    if len(strategies) > 1 and checkpoint is not None and PLACEHOLDER not in checkpoint:
        raise UserError(
            f'{checkpoint}: one file for {len(strategies)} strategies; write {PLACEHOLDER} for their names'
        )
    cfg = load_config(config, options)
    require(cfg, ('model',), 'a receptive field')
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    batch = _load_images(cfg, images, count, size)
    rows = [BEFORE] if checkpoint is None or before_after else []
    rows += [AFTER] if checkpoint is not None else []
    networks = [(row, column) for row in rows for column in strategies or [AS_IN_CONFIG]]
    fields: dict[str, dict[str, ReceptiveField]] = {row: {} for row in rows}
    numbers: dict[str, dict[str, dict[str, float]]] = {row: {} for row in rows}
    for row, column in track(networks, 'erf', console=Console(stderr=True), transient=True):
        backbone = _build_backbone(cfg, column)
        if row == AFTER:
            load_pretrained(backbone, checkpoint.replace(PLACEHOLDER, column))
        field = fields[row][column] = receptive_field(backbone, batch)
        numbers[row][column] = {f'beyond {side:.0%}': share for side, share in field.beyond.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    draw_receptive_fields(fields, out)
    with written_whole(out.with_suffix('.json')) as partial:
        partial.write_text(json.dumps(numbers, indent=2) + '\n')
    return numbers


def format_numbers(numbers: dict[str, dict[str, dict[str, float]]]) -> str:
    """The numbers as a Markdown table."""
    sides = list(next(iter(next(iter(numbers.values())).values())))
    rows = [
        [row, column, *(f'{share:.2e}' for share in shares.values())]
        for row, per_column in numbers.items()
        for column, shares in per_column.items()
    ]
    return markdown_table(['', 'strategy', *sides], rows).rstrip()


def _check_output(out: Path, read: Sequence[str]) -> None:
    if out.suffix != '.png':
        raise UserError(f'--out {out}: expected a name that ends in .png')
    refuse_replacing('--out', [out, out.with_suffix('.json')], read)
    folders = [path for path in (Path(name).expanduser() for name in read) if path.is_dir()]
    refuse_inside('--out', [out.parent], folders)


def _build_backbone(cfg: Config, strategy: str) -> nn.Module:
    """The initialised network; the same seed for every strategy."""
    model = copy.deepcopy(cfg.model)
    node = model.get('backbone') or model
    if strategy != AS_IN_CONFIG:
        node.update(strategy_options(strategy))
    torch.manual_seed(0)
    backbone = MODELS.build(node)
    for item in as_list(backbone.init_cfg):
        if type_name(item) not in ('Pretrained', 'PretrainedInit'):  # "before" means untrained
            initialize(backbone, item)
    return backbone


def _load_images(cfg: Config, source: str, count: int, size: tuple[int, int]) -> list[Tensor]:
    """Images as the network gets them, ``(3, *size)``."""
    if count < 1:
        raise UserError(f'--count {count}: at least one image')
    if source == NOISE:
        generator = torch.Generator().manual_seed(0)
        return [torch.randn(3, *size, generator=generator) for _ in range(count)]
    images = find_images(Path(source).expanduser())
    preprocessor = cfg.model.get('data_preprocessor') or {}
    mean, std = np.array(preprocessor.get('mean') or 0), np.array(preprocessor.get('std') or 1)
    loaded = []
    for path in images[:count]:
        problem = image_problem(str(path))
        if problem is not None:
            raise UserError(f'{path}: {problem}')
        to_rgb = preprocessor.get('bgr_to_rgb', False) or preprocessor.get('to_rgb', False)
        image = mmcv.imread(str(path), channel_order='rgb' if to_rgb else 'bgr')
        image = (mmcv.imresize(image, size[::-1]).astype(np.float64) - mean) / std
        loaded.append(torch.from_numpy(image).permute(2, 0, 1).float())  # (H, W, 3) -> (3, H, W)
    return loaded
