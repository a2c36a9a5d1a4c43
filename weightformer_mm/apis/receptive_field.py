"""Receptive fields of the strategies of a config, before and after training."""

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
from torch import Tensor, nn
from tqdm import tqdm

from ..analysis.receptive_field import ReceptiveField, draw_receptive_fields, receptive_field
from ..backbones.strategies import strategy_options
from ..checkpoints.pretrained import load_pretrained
from ..config.read import load_config, require, type_name
from ..datasets.guards.images import image_problem
from ..errors import UserError
from ..utils.libraries import require_libraries
from ..utils.writing import refuse_inside, refuse_replacing, written_whole
from .inference import find_images

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
    """Compute and draw the receptive fields, write their numbers beside the picture, and return these.

    Args:
        config: path of a config; its ``model`` is a backbone, or has one.
        out: the PNG; the numbers go to a JSON file of that name.
        checkpoint: of the trained network; ``{strategy}`` in it stands for the name of the column.
        before_after: two rows, the initialised and the trained network.
        strategies: one column each, as `strategy_options` reads them; none: the network of the config.
        images: an image, a folder of images, or ``'noise'``.
        count: how many images to average over.
        size: height and width in pixels that the images are brought to.
        options: ``KEY=VALUE`` changes to the config.

    Returns:
        Row → column → share of the energy beyond 25, 50 and 75 % of the image.

    Raises:
        UserError: bad input.
    """
    out = Path(out).expanduser()
    if out.suffix != '.png':
        raise UserError(f'--out {out}: expected a name that ends in .png')
    if before_after and checkpoint is None:
        raise UserError('--before-after needs the CHECKPOINT of the trained network')
    if len(strategies) > 1 and checkpoint is not None and PLACEHOLDER not in checkpoint:
        raise UserError(
            f'{checkpoint} is one checkpoint for {len(strategies)} strategies; write {PLACEHOLDER} where '
            'their names stand in the paths'
        )
    _check_out(out, config, checkpoint, images)
    cfg = load_config(config, options)
    require(cfg, ('model',), 'a receptive field')
    scope = cfg.get('default_scope', 'mmengine')
    require_libraries(scope)
    init_default_scope(scope)
    batch = _load_images(cfg, images, count, size)
    rows = {}
    if checkpoint is None or before_after:
        rows[BEFORE] = None
    if checkpoint is not None:
        rows[AFTER] = checkpoint
    columns = list(strategies) or [AS_IN_CONFIG]
    jobs = [(row, column) for row in rows for column in columns]
    fields: dict[str, dict[str, ReceptiveField]] = {row: {} for row in rows}
    for row, column in tqdm(jobs, desc='erf', unit='network', disable=None):
        backbone = _build_backbone(cfg, column)
        if rows[row] is not None:
            load_pretrained(backbone, rows[row].replace(PLACEHOLDER, column))
        fields[row][column] = receptive_field(backbone, batch)
    out.parent.mkdir(parents=True, exist_ok=True)
    draw_receptive_fields(fields, out)
    numbers = {
        row: {column: _named(field) for column, field in per_column.items()}
        for row, per_column in fields.items()
    }
    with written_whole(out.with_suffix('.json')) as partial:
        partial.write_text(json.dumps(numbers, indent=2) + '\n')
    return numbers


def format_numbers(numbers: dict[str, dict[str, dict[str, float]]]) -> str:
    """The numbers as a Markdown table."""
    sides = list(next(iter(next(iter(numbers.values())).values())))
    lines = [f'| | strategy | {" | ".join(sides)} |', '|---|---|' + '---|' * len(sides)]
    for row, per_column in numbers.items():
        for column, shares in per_column.items():
            values = ' | '.join(f'{share:.2e}' for share in shares.values())
            lines.append(f'| {row} | {column} | {values} |')
    return '\n'.join(lines)


def _check_out(out: Path, config: str, checkpoint: str | None, images: str) -> None:
    source = Path(images).expanduser()
    written = [out, out.with_suffix('.json')]
    refuse_replacing('--out', written, [config, *([checkpoint] if checkpoint else []), source])
    if images != NOISE and source.is_dir():
        refuse_inside('--out', [out.parent], [source])


def _named(field: ReceptiveField) -> dict[str, float]:
    return {f'beyond {side:.0%}': share for side, share in field.beyond.items()}


def _build_backbone(cfg: Config, strategy: str) -> nn.Module:
    """The initialised network; the same seed for every strategy."""
    model = copy.deepcopy(cfg.model)
    node = model.get('backbone') or model
    if strategy != AS_IN_CONFIG:
        node.update(strategy_options(strategy))
    torch.manual_seed(0)
    backbone = MODELS.build(node)
    given = backbone.init_cfg if isinstance(backbone.init_cfg, list) else [backbone.init_cfg]
    # pretrained weights are not what "before" means
    wanted = [
        cfg for cfg in given if cfg and type_name(cfg) not in ('Pretrained', 'PretrainedInit')
    ]
    if wanted:
        initialize(backbone, wanted)
    return backbone


def _load_images(cfg: Config, source: str, count: int, size: tuple[int, int]) -> list[Tensor]:
    """Images as the network gets them, ``(3, *size)``."""
    if source == NOISE:
        generator = torch.Generator().manual_seed(0)
        return [torch.randn(3, *size, generator=generator) for _ in range(count)]
    images, _ = find_images(Path(source).expanduser())
    preprocessor = cfg.model.get('data_preprocessor') or {}
    mean, std = (
        np.array(preprocessor.get(key) or [default] * 3)
        for key, default in (('mean', 0), ('std', 1))
    )
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
