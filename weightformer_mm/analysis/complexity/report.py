"""The complexity of what a config file describes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from torch import nn
from tqdm import tqdm

from ...config.read import load_config, require, type_name
from ...errors import UserError
from ...utils.libraries import require_libraries
from ...utils.translate import explain
from .cost import Complexity, measure

Shape = tuple  # (height, width)
_DEFAULT_SHAPES = {'mmseg': (512, 512), 'mmpretrain': (224, 224)}
_DETECTION_SHAPE = (800, 1280)


def complexity_of_config(
    config: str,
    shapes: Sequence[Shape] = (),
    backbone: bool = False,
    options: Sequence[str] = (),
) -> tuple[nn.Module, list[Complexity]]:
    """Build what a config describes, without loading weights, and measure it at each shape.

    Args:
        config: path of a config whose ``model`` is a detector, segmentor, classifier or bare backbone.
        shapes: heights and widths in pixels; none: 800x1280, for mmseg 512x512, for mmpretrain 224x224.
        backbone: measure the backbone alone.
        options: ``KEY=VALUE`` changes to the config.

    Returns:
        The model and its complexity at each shape.

    Raises:
        UserError: bad input.
    """
    for height, width in shapes:
        if height < 1 or width < 1:
            raise UserError(f'--shape {height} {width}: expected positive numbers of pixels')
    cfg = load_config(config, options)
    require(cfg, ('model',), 'counting')
    scope = cfg.get('default_scope') or 'mmengine'
    require_libraries(scope)
    init_default_scope(scope)
    model_cfg = _model_config(cfg, backbone)
    model = _build(model_cfg)
    channels = (model_cfg.get('backbone') or model_cfg).get('in_channels', 3)
    shapes = shapes or [_DEFAULT_SHAPES.get(scope, _DETECTION_SHAPE)]
    bar = tqdm(shapes, desc='count', unit='shape', disable=len(shapes) < 2, leave=False)
    return model, [_measure(model, shape, channels) for shape in bar]


def _model_config(cfg: Config, backbone: bool) -> ConfigDict:
    model_cfg = cfg.model
    if backbone and 'backbone' not in model_cfg:
        raise UserError(
            f'--backbone: the model of {cfg.filename}, {type_name(model_cfg)}, has no backbone; if it is one '
            'itself, leave the option out'
        )
    model_cfg = model_cfg.backbone if backbone else model_cfg
    return ConfigDict(for_counting(model_cfg.to_dict()))


def for_counting(node: Any) -> Any:
    """A copy of a config that asks for no pretrained weights and no other processes; the cost is the same."""
    if isinstance(node, (list, tuple)):
        return type(node)(for_counting(item) for item in node)
    if not isinstance(node, dict):
        return copy.deepcopy(node)
    kept = {}
    for key, value in node.items():
        if key == 'init_cfg' and _names_weights(value):
            kept[key] = None
        elif key == 'type' and value == 'MMSyncBN':
            kept[key] = 'SyncBN'  # mmcv's is not even built without a process group
        elif key == 'pretrained':
            kept[key] = False if isinstance(value, bool) else None
        else:
            kept[key] = for_counting(value)
    return kept


def _names_weights(init_cfg: Any) -> bool:
    entries = init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]
    return any(isinstance(entry, dict) and 'checkpoint' in entry for entry in entries)


def _build(model_cfg: ConfigDict) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return revert_sync_batchnorm(MODELS.build(model_cfg)).eval()


def _measure(model: nn.Module, shape: Shape, in_channels: int) -> Complexity:
    try:
        return measure(model, shape, in_channels)
    except RuntimeError as error:
        if explain(error) is not None:  # such as out of memory
            raise
        where = getattr(error, 'module', None)
        raise UserError(
            f'{type(model).__name__} cannot run at {shape[0]}x{shape[1]}: {error}'
            + (f' (in {where})' if where else '')
        ) from error
