"""Build a data loader whose data sets are checked: before, while and after their annotations are read."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.dataset import BaseDataset, DefaultSampler, RepeatDataset

from ...config.read import innermost_datasets
from ...errors import ArgumentError, UserError
from ..checks.coco_uses import is_coco
from ..checks.images import NO_FILE, unread
from ..checks.images import loader as image_loader
from ..checks.labels import LabelRange
from ..checks.learning import check_learnable
from ..checks.named_loading import guard
from ..checks.pixels import deep_pixels
from ..checks.readable import reading_problem
from ..checks.wrappers import inner_datasets, innermost, with_one_metainfo, wrapper_findings
from .annotations import check_categories, checked_coco_files, readings, refuse_first


def build_checked(dataloader: Any, build: Callable[[Any], Any]) -> Any:
    """The data loader that ``build`` makes of a config; its data sets name bad files.

    Raises:
        UserError: the rules for data sets find an error, or the libraries cannot read the data.
    """
    dataset = dataloader.get('dataset') if isinstance(dataloader, dict) else None
    try:
        if isinstance(dataset, dict):
            refuse_first(wrapper_findings(dataset, 'dataset'), kind=ArgumentError)
            dataloader = type(dataloader)({**dataloader, 'dataset': with_one_metainfo(dataset)})
        with checked_coco_files(readings(dataset)):
            loader = build(dataloader)
    except Exception as error:
        problem = _explain(error, dataset)
        if problem is None:
            raise
        raise UserError(problem) from error
    check_categories(loader.dataset)
    _check_files(loader.dataset)
    check_learnable(loader.dataset)
    _check_arguments(loader)
    _check_batches(loader)
    _warn_of_lost_bits(loader.dataset)
    name_unreadable_images(loader.dataset)
    return loader


def _check_files(dataset: Any) -> None:
    """Refuse a data set that lists an image or a label image that is not there."""
    for inner in innermost(dataset):
        missing = [*unread(inner)] if isinstance(inner, BaseDataset) else []
        if missing:
            (what, path), *others = missing
            more = f', and {len(others)} more are missing' if others else ''
            advice = 'tools/check_dataset.py lists what is wrong'
            raise UserError(f'cannot read the {what} {path}: {NO_FILE}{more}; {advice}')


def _check_arguments(loader: Any) -> None:
    """Refuse arguments that PyTorch looks at when the first batch is made: after an epoch in validation."""
    if loader.timeout and not loader.num_workers:
        raise ArgumentError(f'timeout={loader.timeout} is for workers, and num_workers is 0')
    if not isinstance(loader.generator, (torch.Generator, type(None))):
        raise ArgumentError(f'generator={loader.generator!r} is none; set randomness.seed instead')


def _check_batches(loader: Any) -> None:
    """Refuse a loader without a batch, or with more than its data set has.

    A training would end after epochs of no iteration, or in the middle of one: mmengine does not compare
    ``num_batch_per_epoch``.
    """
    asked, inside = len(loader.dataset), getattr(loader.dataset, '_dataset', loader.dataset)
    is_slice = type(loader.dataset).__name__ == '_SlicedDataset'
    held = math.inf if isinstance(inside, RepeatDataset) else len(inside)  # it begins anew
    if is_slice and asked > held:
        raise ArgumentError(
            f'num_batch_per_epoch, with batch_size={loader.batch_size}, takes {asked} images, but the data '
            f'set has {held}; set it lower or to None'
        )
    sampler = getattr(loader.sampler, 'inside', loader.sampler)
    if isinstance(sampler, DefaultSampler) and not len(loader):  # others begin anew within a batch
        raise ArgumentError(
            f'{len(loader.dataset)} images fill no batch of batch_size={loader.batch_size}, and '
            'drop_last=True drops the rest: the data loader has no batch'
        )


def _warn_of_lost_bits(dataset: Any) -> None:
    """Say if the first image of a data set loses values when it is loaded."""
    for inner in innermost(dataset):
        load = image_loader(inner, 'image')
        path = inner.get_data_info(0).get('img_path') if load and len(inner) else None
        if not isinstance(path, str) or deep_pixels(path, None) is None:
            continue
        note, is_lost = deep_pixels(path, load({'img_path': path, 'img_id': 0})['img'])
        if is_lost:
            logging.getLogger('weightformer_mm').warning(f'{path}: {note}')


def _explain(error: Exception, dataset: Any) -> str | None:
    """What is wrong with a data set or its loader; None for a programming error."""
    if 'persistent_workers' in str(error):
        return 'a data loader with num_workers=0 needs persistent_workers=False as well'
    nodes = [node for _, node in innermost_datasets(dataset, '')]
    return None if not nodes or isinstance(error, UserError) else reading_problem(error, nodes[0])


def name_unreadable_images(dataset: Any) -> None:
    """Wrap the loading transforms of a data set, and of those inside it, in `NamedLoading`."""
    for inner in inner_datasets(dataset):
        transforms = getattr(getattr(inner, 'pipeline', None), 'transforms', None)
        if isinstance(transforms, list):
            transforms[:] = named_loading(transforms, inner)


def named_loading(transforms: Sequence[Any], dataset: Any) -> list[Any]:
    """The transforms of a pipeline of ``dataset``, those that load wrapped in `NamedLoading`."""
    labels, sized = LabelRange.of(dataset), is_coco(dataset)
    return [guard(transform, labels, sized) for transform in transforms]
