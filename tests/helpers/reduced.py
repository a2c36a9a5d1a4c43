"""A recipe with images and a model small enough for a test; the rest is as in the file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from weightformer_mm.config.options import use_data_root
from weightformer_mm.config.read import as_list, innermost_dataset

STEP = 32  # pixels: sizes stay multiples of it
# of each folder the factor that brings its images to about 128 pixels, and the one for the views of TTA
FACTORS = {
    'coco': (0.12, 0.12),
    'ade20k': (0.1875, 0.1),
    'cityscapes': (0.0625, 0.03),
    'camvid': (0.25, 0.125),
    'nuclei': (0.5, 0.5),
}

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
    'CopyPasteWithinTheSet',
    'FilterAnnotations',
    'Invert',
    'LoadAnnotations',
    'LoadImageFromFile',
    'LoadPanopticAnnotations',
    'PackDetInputs',
    'PackSegInputs',
    'PhotoMetricDistortion',
    'RandomFlip',
    'Rotate',
    'YOLOXHSVRandomAug',
)


def reduced(path: Path, root: Path, work_dir: Path) -> Config:
    """The recipe on small images: one batch to train with and then one image to validate with."""
    cfg = Config.fromfile(path)
    use_data_root(cfg, root)
    reduce_sizes(cfg, *FACTORS[path.parent.name])
    cfg.work_dir = str(work_dir)
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.num_workers, loader.persistent_workers = 0, False
        loader.batch_size = min(2, loader.batch_size)
        # of COCO: images in landscape format, which are batched together, one of them with a crowd
        innermost_dataset(loader).indices = [0, 2][: loader.batch_size] if split == 'train' else [2]
    if cfg.test_dataloader.dataset.type == 'CocoPanopticDataset':
        cfg.test_dataloader.dataset.indices = None  # mmdet compares with all that is in the file
    if 'max_epochs' in cfg.train_cfg:
        cfg.train_cfg = dict(type=cfg.train_cfg.type, max_epochs=1, val_interval=1)
    else:
        cfg.train_cfg = dict(type=cfg.train_cfg.type, max_iters=1, val_interval=1)
    cfg.param_scheduler = None  # the first steps of a warm-up are too small to be seen
    cfg.model.backbone.drop_path_rate = 0.0  # a block that is left out learns nothing
    cfg.pop('auto_scale_lr', None)  # nor are the rates for such a small batch seen in every weight
    if cfg.optim_wrapper.optimizer.get('opt') == 'nmuon':
        cfg.optim_wrapper.optimizer.ns_steps = 1  # five of them take seconds on one core
    cfg.randomness = dict(seed=0)
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint.interval = 1
    cfg.default_hooks.checkpoint.save_optimizer = False
    reduce_backbone(cfg.model)
    for part in filter(None, (cfg.model, cfg.get('tta_model'))):
        reduce_counts(part)
    use_local_weights(cfg, work_dir)
    return cfg


def shallow(backbone: dict) -> dict:
    """The settings of its arch with at most two blocks a stage, dynamic and static ones."""
    settings = dict(MODELS.get(backbone['type']).arch_settings[backbone['arch']])
    fewer = dict(depths=[2, 1, 1, 2]) if 'depths' in settings else dict(depth=2)
    return {**settings, **fewer}


def reduce_backbone(model: dict) -> None:
    """A shallow, narrow backbone, and its widths in what reads them."""
    arch = shallow(model['backbone'])
    old, new = arch['embed_dims'], 64 if 'depth' in arch else [32, 64, 128, 192]
    model['backbone']['arch'] = {**arch, 'embed_dims': new}
    narrow = dict(zip(as_list(old), as_list(new)))
    readers = ['neck'] if 'neck' in model else ['decode_head', 'auxiliary_head', 'panoptic_head']
    for reader in (model[name] for name in readers if name in model):
        widths = reader['in_channels']
        changed = [narrow[width] for width in as_list(widths)]
        reader['in_channels'] = changed if isinstance(widths, list) else changed[0]


def reduce_counts(part: dict) -> None:
    """Heads narrow and of few layers; few boxes, but all of these: an untrained detector is sure of none."""
    counts = dict(nms_pre=50, max_per_img=10, num_queries=50, num_points=512)
    counts.update(fc_out_channels=32, conv_out_channels=32, channels=64, num_layers=2)
    for key, value in part.items():
        if key == 'score_thr':
            part[key] = 0.0
        elif key == 'allowed_border':
            part[key] = -1  # the anchors of coarse levels lie within large images only
        elif key in counts and not isinstance(value, list):
            part[key] = min(value, counts[key])
        elif isinstance(value, (dict, list)):
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, dict):
                    reduce_counts(item)


def use_local_weights(cfg: Config, folder: Path) -> None:
    """Have released weights replaced by a file of the same names and shapes."""
    init_cfg = cfg.model.backbone.get('init_cfg')
    if init_cfg is None or isinstance(init_cfg, list):  # a list says how to draw random ones
        return
    assert init_cfg.type == 'Pretrained' and init_cfg.checkpoint.startswith('hf://')
    backbone = MODELS.build({**cfg.model.backbone, 'init_cfg': None})
    init_cfg.checkpoint = str(folder / 'released.pth')
    torch.save({'state_dict': backbone.state_dict()}, init_cfg.checkpoint)


def reduce_sizes(cfg: Config, factor: float, tta_factor: float | None = None) -> None:
    """Multiply every size in pixels of the config's pipelines, preprocessor and sliding windows.

    ``tta_factor`` is for the views of test-time augmentation; of each list of them two stay.

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
        if name == 'TestTimeAug':
            node['transforms'] = [views[:1] + views[1:][-1:] for views in node['transforms']]
    elif name in _LENGTHS:
        node.update({key: scale(node[key]) for key in _LENGTHS[name] if key in node})
    elif name not in _WITHOUT_LENGTHS:
        raise ValueError(
            f'{name}: add it to the transforms with or without lengths in {__file__}, else its images may '
            'be too large for a test'
        )
