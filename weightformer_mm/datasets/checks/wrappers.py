"""Data sets inside data sets: do the wrappers fit what they wrap? Judged before annotations are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from ...config.read import innermost_datasets, type_name
from ...config.types import class_of
from .classes import build_unloaded, classes_of
from .images import transforms_of
from .report import ERROR, Finding

_CHECK = 'wrappers'


def wrapper_findings(dataset: Any, place: str) -> Iterator[Finding]:
    """What is wrong with the wrappers of a loader's data set, and with what they wrap.

    Args:
        dataset: its config.
        place: its place in the config, for the reader.
    """
    for inner, node in innermost_datasets(dataset, place):
        for index, transform in enumerate(transforms_of(build_unloaded(node))):
            for kind in (type(mixing).__name__ for mixing in _mixing(transform)):
                what = f'{kind} mixes several images, which only MultiImageMixDataset gives it'
                where = f'{inner}.pipeline.{index}'
                advice = f'put it into the pipeline of one around {type_name(node)}'
                yield Finding(ERROR, _CHECK, what, f'{where}: {advice}')
    for inner, node in _wrappers(dataset, place):
        if type_name(node) == 'ClassBalancedDataset' and not _knows_classes(node['dataset']):
            what = 'ClassBalancedDataset needs a data set that tells the classes of an image (get_cat_ids)'
            kind = type_name(node['dataset'])
            where = (
                f'{inner}.dataset is {kind}; put it around each data set inside, or leave it out'
            )
            yield Finding(ERROR, _CHECK, what, where)
        if type_name(node) == 'MultiImageMixDataset':
            yield from _packed(node, inner)
            yield from _lost_masks(node, inner)
        if type_name(node) == 'ConcatDataset':
            yield from _other_classes(node, inner)


def with_one_metainfo(dataset: Any) -> Any:
    """The config of a data set in which differing colours and the like are no matter to a ConcatDataset.

    Otherwise mmdet makes a list of its metainfo, which its evaluators and visualizers cannot read, and
    mmengine, which mmseg uses, refuses.
    """
    if not isinstance(dataset, dict):
        return dataset
    changed = {key: with_one_metainfo(value) for key, value in dataset.items() if key == 'dataset'}
    if isinstance(dataset.get('datasets'), (list, tuple)):
        changed['datasets'] = [with_one_metainfo(inner) for inner in dataset['datasets']]
    if changed.get('datasets') and type_name(dataset) == 'ConcatDataset':
        ignored = dataset.get('ignore_keys') or []
        ignored = [ignored] if isinstance(ignored, str) else list(ignored)
        # mmdet adds the sizes to the metainfo of a ConcatDataset inside another
        changed['ignore_keys'] = [*ignored, *_differing(dataset), 'cumulative_sizes']
    return type(dataset)({**dataset, **changed}) if changed else dataset


def _differing(node: dict) -> list[str]:
    """Keys of metainfo, but for the classes, that are not the same in all data sets of a ConcatDataset."""
    metas = [_metainfo(inner) for _, inner in innermost_datasets(node, '')]
    keys = dict.fromkeys(key for meta in metas for key in meta)
    missing = object()
    return [
        key
        for key in keys
        if key != 'classes'
        and any(repr(meta.get(key, missing)) != repr(metas[0].get(key, missing)) for meta in metas)
    ]


def _metainfo(node: dict) -> dict:
    return getattr(build_unloaded(node), 'metainfo', None) or {}


def _other_classes(node: dict, place: str) -> Iterator[Finding]:
    first = None
    for inner, leaf in innermost_datasets(node, place):
        dataset = build_unloaded(leaf)
        classes = classes_of(dataset)
        if classes is None or getattr(dataset, 'return_classes', False):
            continue  # an open vocabulary
        if first is None:
            first = inner, list(classes)
        elif first[1] != list(classes):
            what = (
                'data sets of one ConcatDataset have other classes, of which a model has one list'
            )
            where = f'{inner}: {", ".join(classes)[:80]}; {first[0]}: {", ".join(first[1])[:80]}'
            yield Finding(ERROR, _CHECK, what, f'{where}; set the same metainfo in both')
            return


def _packed(node: dict, place: str) -> Iterator[Finding]:
    """What MultiImageMixDataset mixes must still be arrays."""
    for inner, part in [*list(_wrappers(node, place))[1:], *innermost_datasets(node, place)]:
        for index, step in enumerate(part.get('pipeline') or ()):
            if type_name(step).startswith('Pack'):
                what = f'{type_name(step)} comes before MultiImageMixDataset mixes'
                where = f'{inner}.pipeline.{index}: move it to the end of {place}.pipeline'
                yield Finding(ERROR, _CHECK, what, where)


def _lost_masks(node: dict, place: str) -> Iterator[Finding]:
    """Mosaic and MixUp of mmdet mix boxes alone; the masks would be those of one image."""
    steps = [s for _, n in innermost_datasets(node, '') for s in transforms_of(build_unloaded(n))]
    kinds = [type_name(step) for step in node.get('pipeline') or ()]
    for kind in set(kinds) & {'Mosaic', 'MixUp'}:
        if any(getattr(step, 'with_mask', False) for step in steps):
            what = f'{kind} mixes boxes, but no masks'
            advice = f'load none (with_mask=False), or use Cached{kind}'
            yield Finding(ERROR, _CHECK, what, f'{place}.pipeline.{kinds.index(kind)}: {advice}')


def _wrappers(dataset: Any, place: str) -> Iterator[tuple[str, dict]]:
    """Place and config of every wrapper, from the outside in."""
    if not isinstance(dataset, dict):
        return
    inner = [('dataset', dataset['dataset'])] if 'dataset' in dataset else []
    inner += [(f'datasets.{i}', item) for i, item in enumerate(dataset.get('datasets') or [])]
    if inner:
        yield place, dataset
    for key, node in inner:
        yield from _wrappers(node, f'{place}.{key}')


def _knows_classes(node: Any) -> bool:
    kind = class_of(node, DATASETS) if isinstance(node, dict) else type(node)
    own = getattr(kind, 'get_cat_ids', None)
    return own is not None and own is not BaseDataset.get_cat_ids


def _mixing(transforms: Any) -> Iterator[Any]:
    """The transforms, and those inside them, that need other images than their own."""
    for transform in transforms if isinstance(transforms, (list, tuple)) else [transforms]:
        asks = any(hasattr(transform, name) for name in ('get_indexes', 'get_indices'))
        if asks and not hasattr(transform, 'results_cache'):
            yield transform
        branches = getattr(transform, 'branch_pipelines', {}).values()
        for inner in (getattr(transform, 'transforms', ()), *branches):
            yield from _mixing(inner)


def inner_datasets(dataset: Any) -> Iterator[Any]:
    """A built data set and all those inside it (RepeatDataset, ConcatDataset, ...)."""
    dataset = getattr(dataset, 'inside', dataset)  # of what seeds its samples
    yield dataset
    for inner in [getattr(dataset, 'dataset', None), *getattr(dataset, 'datasets', ())]:
        if inner is not None:
            yield from inner_datasets(inner)


def innermost(dataset: Any) -> list[Any]:
    """The data sets inside a built one that wrap no other."""
    kinds = ('dataset', 'datasets')
    return [d for d in inner_datasets(dataset) if not any(hasattr(d, kind) for kind in kinds)]
