"""A recipe with images small enough for a test, and else as it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from mmengine.config import Config

STEP = 32  # pixels: sizes stay multiples of it

# the arguments of each transform that are lengths in pixels
_LENGTHS = {
    'CachedMixUp': ('img_scale',),
    'CachedMosaic': ('img_scale',),
    'MixUp': ('img_scale',),
    'Mosaic': ('img_scale',),
    'Pad': ('size',),
    'RandomChoiceResize': ('scales', 'max_size'),
    'RandomCrop': ('crop_size',),
    'RandomResize': ('scale',),
    'Resize': ('scale',),
}
_NESTED = ('RandomChoice', 'TestTimeAug')
_WITHOUT_LENGTHS = (
    'FilterAnnotations',
    'LoadAnnotations',
    'LoadImageFromFile',
    'PackDetInputs',
    'PackSegInputs',
    'PhotoMetricDistortion',
    'RandomFlip',
    'YOLOXHSVRandomAug',
)


def reduce_sizes(cfg: Config, factor: float, tta_factor: float | None = None) -> None:
    """Multiply every size in pixels of the config's pipelines, preprocessor and sliding windows.

    ``tta_factor`` is for the views of test-time augmentation, of which there are many.

    Raises:
        ValueError: a transform of which it is not known whether it has a size.
    """

    def scale(value: Any, factor: float = factor) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(scale(item, factor) for item in value)
        return None if value is None else max(STEP, round(value * factor / STEP) * STEP)

    done: dict[int, Any] = {}  # a pipeline may stand in several places
    for node in _dicts(cfg._cfg_dict):
        for key, value in node.items():
            if key.endswith('pipeline') and isinstance(value, list):
                part = tta_factor or factor if key == 'tta_pipeline' else factor
                _reduce_transforms(value, partial(scale, factor=part), done)
    preprocessor = cfg.model.data_preprocessor
    for part in [preprocessor, *(preprocessor.get('batch_augments') or ())]:
        if 'size' in part:
            part.size = scale(part.size)
        if part.get('pad_size_divisor', 0) > STEP:
            part.pad_size_divisor = scale(part.pad_size_divisor)
    test_cfg = cfg.model.get('test_cfg') or {}
    for key in ('crop_size', 'stride'):
        if key in test_cfg:
            test_cfg[key] = scale(test_cfg[key])


def _dicts(node: Any):
    """All dicts of a config, outer ones first."""
    if isinstance(node, dict):
        yield node
    if isinstance(node, (dict, list, tuple)):
        for item in node.values() if isinstance(node, dict) else node:
            yield from _dicts(item)


def _reduce_transforms(node: Any, scale: Callable[[Any], Any], done: dict[int, Any]) -> None:
    if isinstance(node, (list, tuple)):
        for item in node:
            _reduce_transforms(item, scale, done)
        return
    if id(node) in done:
        return
    done[id(node)] = node
    name = node['type'].rpartition('.')[2]
    if name in _NESTED:
        _reduce_transforms(node['transforms'], scale, done)
    elif name in _LENGTHS:
        node.update({key: scale(node[key]) for key in _LENGTHS[name] if key in node})
    elif name not in _WITHOUT_LENGTHS:
        raise ValueError(
            f'{name}: add it to the transforms with or without lengths in {__file__}, else its images may '
            'be too large for a test'
        )
