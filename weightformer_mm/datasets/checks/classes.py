"""Do the heads have as many classes as the data set?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.fileio import list_dir_or_file
from mmengine.registry import DATASETS
from torch import nn

from ...checkpoints.match import unwrapped
from ...config.read import innermost_datasets, metrics_of, type_name
from ...errors import ArgumentError, UserError

_PALETTES = ('coco', 'voc', 'citys', 'random')  # what mmdet knows by name
NO_NAMES = 'no class names (metainfo=dict(classes=...))'
# parts of a model that have classes of their own
_OTHER_CLASSES = {'backbone', 'neck', 'rpn_head', 'semantic_head', 'teacher'}


def check_classes(cfg: Config, model: nn.Module, splits: Sequence[str]) -> None:
    """Compare the heads of a built model with the data sets of the config, without reading annotations.

    ``check_classes = False`` in the config skips this, for a head whose classes differ on purpose.

    Raises:
        UserError: the numbers differ; the message names the head and the data set.
    """
    if cfg.get('check_classes', True):
        for problem in class_problems(cfg, model, splits):
            raise UserError(f'{problem}, or check_classes=False if it is meant so')


def class_problems(cfg: Config, model: nn.Module, splits: Sequence[str]) -> Iterator[str]:
    """A line for each data set whose classes, or ignored label, differ from those of what uses them.

    That is the heads, of which the first is named, the evaluators and the data sets of training.
    """
    for split in splits:
        readers = [
            (f'{split}_evaluator (IoUMetric)', metric.get('ignore_index', 255))
            for metric in metrics_of(cfg.get(f'{split}_evaluator'))
            if type_name(metric) == 'IoUMetric'
        ]
        if split == 'train':
            readers += _ignoring(model)
        for source, dataset, classes in _classified(cfg, split):
            problems = (
                *islice(_of_heads(source, dataset, classes, model), 1),
                *islice(_of_ignored(source, dataset, classes, readers), 1),
                *_of_names(source, dataset, classes, cfg),
                *(_of_weights(model) if split == 'train' else ()),
            )
            yield from problems[:1]


def _classified(cfg: Config, split: str) -> Iterator[tuple[str, Any, Sequence[str]]]:
    """Name for the reader, data set and class names of each that has a fixed number of classes."""
    loader, place = cfg.get(f'{split}_dataloader') or {}, f'{split}_dataloader.dataset'
    for inner, node in innermost_datasets(loader.get('dataset'), place):
        dataset = build_unloaded(node)
        classes = classes_of(dataset)
        if classes is not None and not getattr(dataset, 'return_classes', False):
            yield f'{type(dataset).__name__} ({inner})', dataset, classes


def _of_heads(source: str, dataset: Any, classes: Sequence[str], model: nn.Module) -> Iterator[str]:
    things, stuff = (dataset.metainfo.get(f'{kind}_classes') for kind in ('thing', 'stuff'))
    if things is None or stuff is None:
        things, stuff = classes, ()
    elif [*things, *stuff] != [*classes]:  # panoptic heads take the first labels for things
        yield (
            f'{source}: metainfo.classes are not its {len(things)} thing_classes and then its '
            f'{len(stuff)} stuff_classes; set all three'
        )
    for head, key, number, names in _misfits(model, things, stuff):
        kind = key.replace('num_', '').replace('_', ' ')
        remedy = (
            'or metainfo' if 'classes' in dataset.metainfo else 'or make a folder of each class'
        )
        yield (
            f'{head} has {key}={number}, but {source} has {len(names)} {kind}: {_shown(names)}; '
            f'set {key} {remedy}'
        )


def _of_names(source: str, dataset: Any, classes: Sequence[str], cfg: Config) -> Iterator[str]:
    """Folders are numbered in their order, whatever a training numbered."""
    if 'classes' in dataset.metainfo:
        return
    for other, trained, names in islice(_classified(cfg, 'train'), 1):
        if 'classes' not in trained.metainfo and [*classes] != [*names]:
            yield (
                f'{source} has the classes {_shown(classes)}, but {other} has {_shown(names)}; give both '
                'the same folders, if empty ones'
            )


def _of_ignored(
    source: str, dataset: Any, classes: Sequence[str], readers: Sequence[tuple[str, Any]]
) -> Iterator[str]:
    """What would take ignored pixels for those of a class that is not there; it may ignore a class."""
    own = getattr(dataset, 'ignore_index', None)
    for reader, value in readers:
        if None not in (own, value) and own != value and min(own, value) >= len(classes):
            yield (
                f'{reader} has ignore_index={value}, but {source} has ignore_index={own}; set the same '
                'in the data sets, the heads and IoUMetric'
            )


def _of_weights(model: nn.Module) -> Iterator[str]:
    """Weights that the softmax of a head of mmdet, which has a value more than classes, cannot use."""
    for name, module in unwrapped(model).named_modules():
        loss = getattr(module, 'loss_cls', None)
        weights = getattr(loss, 'class_weight', None)
        kind = type(loss)
        if not _is_head(name, module) or kind.__name__ != 'CrossEntropyLoss':
            continue
        if not kind.__module__.startswith('mmdet.'):
            continue
        if isinstance(weights, (list, tuple)) and not loss.use_sigmoid:
            needed = module.num_classes + 1
            if len(weights) != needed:
                yield (
                    f'model.{name} ({type(module).__name__}) has a loss_cls.class_weight of '
                    f'{len(weights)} values; set {needed}, one for each class and the last for no object'
                )


def _ignoring(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in unwrapped(model).named_modules():
        if _is_head(name, module) and hasattr(module, 'ignore_index'):
            yield f'model.{name} ({type(module).__name__})', module.ignore_index


def _shown(names: Sequence[str]) -> str:
    return ', '.join(names[:5]) + (', ...' if len(names) > 5 else '')


def _misfits(
    model: nn.Module, things: Sequence[str], stuff: Sequence[str]
) -> Iterator[tuple[str, str, int, Sequence[str]]]:
    """Heads of other numbers of classes: name and class, the option, its value, and the classes there are.

    A head of both things and stuff has a number for each; all others know things alone. Without ``stuff``,
    the things are all classes.
    """
    for name, module in unwrapped(model).named_modules():
        # the model itself only copies the numbers of its fusion head
        kind = f'model.{name} ({type(module).__name__})'
        if name and stuff and isinstance(getattr(module, 'num_stuff_classes', None), int):
            for key, names in (('num_things_classes', things), ('num_stuff_classes', stuff)):
                if getattr(module, key) != len(names):
                    yield kind, key, getattr(module, key), names
        elif _is_head(name, module) and module.num_classes != len(things):
            yield kind, 'num_classes', module.num_classes, things


def build_unloaded(node: dict) -> Any:
    """Build the data set of a config, if possible without its annotations.

    Raises:
        UserError: its class names or colours contradict those of its type.
    """
    try:
        return DATASETS.build({**node, 'lazy_init': True})
    except TypeError as error:
        if 'lazy_init' in str(error):  # not one of mmengine's data sets
            return DATASETS.build(dict(node))
        given = node.get('metainfo')
        if not isinstance(given, dict) or given.get('palette', ()) is not None:
            raise
        text = 'metainfo.palette is None; give a colour for each class, or leave it out'
        raise ArgumentError(text).with_traceback(error.__traceback__) from error
    except (AssertionError, ValueError) as error:
        if 'classes' not in str(error):
            raise
        text = ' '.join(str(error).split())
        raise UserError(f'data set {node.get("type")}, metainfo: {text[:300]}') from error


def classes_of(dataset: Any) -> Sequence[str] | None:
    """Class names of a data set; None if it has none.

    Raises:
        UserError: they, or those of things or stuff, are no list of texts.
    """
    if not isinstance(dataset, BaseDataset):
        return None
    classes = dataset.metainfo.get('classes') or _folders(dataset)
    own = {key: dataset.metainfo.get(key) for key in ('thing_classes', 'stuff_classes')}
    for key, names in {'classes': classes, **own}.items():
        name = f'data set {type(dataset).__name__}: metainfo.{key}'
        if isinstance(names, str):
            raise UserError(f"{name} is the string '{names}'; one class is written ('{names}',)")
        for place, value in enumerate(names or ()):
            if not isinstance(value, str):
                raise UserError(f'{name}[{place}] is {value!r}; the name of a class is text')
    return classes or None


def _folders(dataset: Any) -> list[str]:
    """The folders that one of mmpretrain's data sets without a list of images takes for its classes."""
    if dataset.ann_file or not getattr(dataset, 'with_label', False):
        return []
    root = dataset.data_prefix.get('img_path', '')
    return sorted(list_dir_or_file(root, list_file=False)) if os.path.isdir(root) else []


def trained_meta(
    checkpoint: Mapping[str, Any], path: str | os.PathLike, model: nn.Module
) -> dict[str, Any] | None:
    """Class names and colours of a checkpoint's training data set; None if the checkpoint has none.

    Raises:
        UserError: they are not names and colours, or fewer than the model's classes.
    """
    meta = checkpoint.get('meta')
    meta = meta.get('dataset_meta') if isinstance(meta, dict) else None
    if not isinstance(meta, dict) or 'classes' not in meta:
        return None
    names, colours = meta['classes'], meta.get('palette')
    most = max((number for _, _, number in heads_of(model)), default=0)
    if not _are(names, str, most):
        raise UserError(f'{path} is damaged: meta.dataset_meta.classes are not the {most} names')
    # with more classes than its type, a data set keeps the colours of its type
    coloured = _are(colours, (list, tuple), 1) and all(map(_is_colour, colours))
    if not coloured and colours not in (None, *_PALETTES):
        raise UserError(f'{path} is damaged: meta.dataset_meta.palette are not colours of classes')
    return meta


def _are(values: Any, kind: type | tuple[type, ...], least: int) -> bool:
    """Whether ``values`` is a sequence of at least ``least`` values, all of this kind."""
    listed = isinstance(values, (list, tuple)) and len(values) >= least
    return listed and all(isinstance(value, kind) for value in values)


def _is_colour(values: Sequence) -> bool:
    return len(values) == 3 and all(type(value) is int and 0 <= value < 256 for value in values)


def heads_of(model: nn.Module) -> Iterator[tuple[str, str, int]]:
    """Name, class and number of classes of each head."""
    for name, module in unwrapped(model).named_modules():
        if _is_head(name, module):
            yield name, type(module).__name__, module.num_classes


def _is_head(name: str, module: nn.Module) -> bool:
    is_other = not name or _OTHER_CLASSES.intersection(name.split('.'))
    return not is_other and isinstance(getattr(module, 'num_classes', None), int)
