"""What a config's model costs; ``tools/complexity.py`` calls this."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from rich.console import Console
from rich.progress import track
from torch import nn

from ..analysis.complexity import Complexity, measure, render
from ..config.read import as_list, load_config, require, type_name
from ..errors import UserError
from ..utils.blame import described, nodes
from ..utils.translate import explain
from ..utils.writing import make_folder, refuse_replacing, written_whole

_DEFAULT_SHAPES = {'mmseg': (512, 512), 'mmpretrain': (224, 224)}
_DETECTION_SHAPE = (800, 1280)


def report_complexity(
    config: str,
    shapes: Sequence[tuple[int, int]],
    backbone: bool,
    style: str,
    out: str | None,
    depth: int,
    options: Sequence[str],
) -> None:
    """Print the complexity of a config's model, or write it to the file ``out``, which appears only whole.

    The other arguments, and the errors, are those of `complexity_of_config` and `render`.
    """
    if depth < 0:
        raise UserError(f'--depth {depth}: expected 0 or more')
    if out is not None:
        path = Path(out).expanduser()
        if path.is_dir():
            raise UserError(f'--out {path}: a folder; name a file')
        refuse_replacing('--out', [path], [config])
        make_folder(path.parent, '--out')
    # another program may read stdout: send what the libraries print elsewhere
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.simplefilter('ignore')
        model, results = complexity_of_config(config, shapes, backbone, options)
    text = render(f'{type(model).__name__} ({Path(config).name})', results, style, depth)
    if out is None:
        print(text, end='')
        return
    with written_whole(path) as partial:
        partial.write_text(text, encoding='utf-8')
    print(path)


def complexity_of_config(
    config: str | Config,
    shapes: Sequence[tuple[int, int]] = (),
    backbone: bool = False,
    options: Sequence[str] = (),
) -> tuple[nn.Module, list[Complexity]]:
    """Build the model of a config without loading weights, and measure it at each shape.

    Args (the others: see `weightformer_mm.apis`):
        config: path of a config whose ``model`` is a detector, segmentor, classifier or bare backbone.
        shapes: heights and widths in pixels; default: 800x1280, or 512x512 for mmseg, 224x224 for mmpretrain.
        backbone: measure only the backbone.

    Returns:
        The model and its complexity at each shape.
    """
    for height, width in shapes:
        if height < 1 or width < 1:
            raise UserError(f'--shape {height} {width}: expected positive numbers of pixels')
    cfg = load_config(config, options)
    require(cfg, ('model',), 'counting')
    scope = cfg.get('default_scope') or 'mmengine'
    init_default_scope(scope)
    model_cfg = cfg.model
    if backbone and 'backbone' not in model_cfg:
        raise UserError(
            f'--backbone: {type_name(model_cfg)}, of {cfg.filename}, has no backbone; is it one itself?'
        )
    model_cfg = for_counting((model_cfg.backbone if backbone else model_cfg).to_dict())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Module.train(revert_sync_batchnorm(MODELS.build(ConfigDict(model_cfg))), False)
    channels = (model_cfg.get('backbone') or model_cfg).get('in_channels', 3)
    shapes = shapes or [_DEFAULT_SHAPES.get(scope, _DETECTION_SHAPE)]
    shown = track(shapes, 'count', console=Console(stderr=True), transient=True)
    return model, [_measure(model, shape, channels) for shape in shown]


def for_counting(node: Any) -> Any:
    """A copy of a config that needs neither pretrained weights nor other processes; the cost is the same."""
    node = copy.deepcopy(node)
    for _, part in nodes(node, ''):
        if isinstance(part, dict):
            if any('checkpoint' in entry for entry in as_list(part.get('init_cfg'))):
                part['init_cfg'] = None
            if part.get('type') == 'MMSyncBN':
                part['type'] = 'SyncBN'  # mmcv's cannot be built without a process group
            if 'pretrained' in part:
                part['pretrained'] = False if isinstance(part['pretrained'], bool) else None
    return node


def _measure(model: nn.Module, shape: tuple[int, int], in_channels: int) -> Complexity:
    try:
        return measure(model, shape, in_channels)
    except Exception as error:
        if explain(error) is not None:  # such as out of memory
            raise
        text = error if isinstance(error, RuntimeError) else described(error)
        raise UserError(
            f'{type(model).__name__} cannot run at {shape[0]}x{shape[1]}: {text}'
        ) from error
