"""What a recipe says about itself: its model, data set, schedule and batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weightformer_mm.checkpoints.sources import WEIGHTS
from weightformer_mm.config.read import load_config, type_name

PAPER = dict(
    Title='Linear-Time Global Visual Modeling without Explicit Attention',
    URL='https://arxiv.org/abs/2605.01711',
)
# collections of the metafiles: each backbone, and where it comes from
COLLECTIONS = {
    'PyramidWeightFormer': "four stages made of the published blocks; the hierarchy is this project's",
    'WeightFormer': 'as published',
}


@dataclass(frozen=True)
class Family:
    """The recipes of one folder of ``configs/``.

    Attributes:
        folder: its name.
        dataset: name of the training data.
        metrics: what a recipe is judged by, in the order of a table's columns.
        shape: height and width at which its models are counted, unless they pad all images to one square;
            None: that of the training crops.
    """

    folder: str
    dataset: str
    metrics: tuple[str, ...]
    shape: tuple[int, int] | None


FAMILIES = (
    Family('coco', 'COCO', ('box AP', 'mask AP'), (800, 1280)),
    Family('ade20k', 'ADE20K', ('mIoU', 'mIoU (ms+flip)'), (512, 2048)),
    Family('cityscapes', 'Cityscapes', ('mIoU', 'mIoU (ms+flip)'), (512, 2048)),
    Family('camvid', 'CamVid', ('mIoU', 'mIoU (ms+flip)'), (360, 480)),
    Family('nuclei', 'BBBC038v1', ('box AP', 'mask AP'), (256, 256)),
    Family('imagenet', 'ImageNet-1k', ('top-1',), None),
    Family('shapes', 'Shapes', ('box AP', 'mask AP', 'mIoU', 'top-1'), (256, 256)),
)


@dataclass(frozen=True)
class Recipe:
    """One config file.

    Attributes:
        path: the file, relative to the repository.
        family: its folder.
        backbone: class of the backbone.
        length: ``{'Epochs': 12}`` or ``{'Iterations': 160000}``.
        batch_size: images of one iteration over all processes.
        shape: height and width at which the model is counted.
        weights: an address, or a file relative to the repository; None: not trained yet.
    """

    path: Path
    family: Family
    backbone: str
    length: dict[str, int]
    batch_size: int
    shape: tuple[int, int]
    weights: str | None

    @property
    def name(self) -> str:
        return self.path.stem


def find_recipes(root: Path, family: Family) -> Iterator[Recipe]:
    """Read every recipe of a folder of ``root / 'configs'``."""
    for path in sorted((root / 'configs' / family.folder).glob('*.py')):
        yield read_recipe(path.relative_to(root), root, family)


def read_recipe(path: Path, root: Path, family: Family) -> Recipe:
    """Read the recipe ``root / path``."""
    cfg = load_config(root / path)
    backbone = cfg.model.backbone
    loop = cfg.train_cfg
    length = (
        {'Iterations': loop.max_iters} if loop.get('max_iters') else {'Epochs': loop.max_epochs}
    )
    return Recipe(
        path=path,
        family=family,
        backbone=type_name(backbone),
        length=length,
        batch_size=cfg.get('auto_scale_lr', {}).get(
            'base_batch_size', cfg.train_dataloader.batch_size
        ),
        shape=_shape(cfg, family),
        weights=_weights(root, path, backbone),
    )


def _shape(cfg: Any, family: Family) -> tuple[int, int]:
    """Height and width at which a recipe's model is counted."""
    side = cfg.model.data_preprocessor.get('pad_size_divisor') or 1
    if family.shape is not None:
        return (side, side) if side > min(family.shape) else family.shape
    for transform in cfg.train_dataloader.dataset.pipeline:
        if type_name(transform) == 'RandomResizedCrop':
            return (transform.scale, transform.scale)
    raise ValueError(f'{cfg.filename}: no RandomResizedCrop in the training pipeline')


def _weights(root: Path, path: Path, backbone: Any) -> str | None:
    """The weights beside a recipe, or those that the authors of the paper released for a classifier."""
    shipped = path.with_suffix(WEIGHTS)
    if (root / shipped).is_file():
        return shipped.as_posix()
    if path.parent.name != 'imagenet' or type_name(backbone) != 'WeightFormer':
        return None
    released = load_config(root / 'configs/_base_/models/released.py')
    return released[f'weightformer_{backbone.arch}'].init_cfg.checkpoint
