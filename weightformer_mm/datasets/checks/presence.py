"""Is the data set there, and would nothing be written over it? Asked before a model is built."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmengine.config import Config

from ...config.read import as_list, innermost_datasets
from ...errors import UserError
from ...utils.writing import lies_in, refuse_inside, same_file


def check_data(cfg: Config, splits: Sequence[str]) -> None:
    """Look for the files and folders that the data loaders and evaluators name.

    Args:
        splits: of 'train', 'val' and 'test'; one without a data loader is skipped.

    Raises:
        UserError: something is missing or a folder is empty; names the command that makes the data where
            the config has it as ``prepare_data``. Or an evaluator would write over the data.
    """
    missing = [text for _, text in missing_data(cfg, splits)]
    if missing:
        more = f' and {len(missing) - 1} more' if len(missing) > 1 else ''
        command = cfg.get('prepare_data')
        remedy = f'make it with: {command}' if command else 'set data_root in the config'
        raise UserError(f'data set: {missing[0]}{more}; {remedy}')
    for split, evaluator in _evaluators(cfg, splits):
        for key in ('output_dir', 'outfile_prefix'):
            if evaluator.get(key):
                _refuse_evaluator(cfg, splits, f'{split}_evaluator.{key}', Path(evaluator[key]))


def _refuse_evaluator(cfg: Config, splits: Sequence[str], place: str, target: Path) -> None:
    """Cityscapes' evaluators remove the whole folder that they write to."""
    refuse_data(cfg, splits, place, target)
    for folder in _image_folders(cfg, splits):
        if lies_in(folder, target):
            raise UserError(
                f'{place} {target}: {folder}, which is read, lies in it; choose another'
            )


def refuse_data(cfg: Config, splits: Sequence[str], option: str, target: Path) -> None:
    """Raise UserError if ``target`` lies in a folder of images or labels, or is that of an annotation file.

    Args:
        option: what named ``target``, for the message.
    """
    refuse_inside(option, [target], _image_folders(cfg, splits))
    for place, path in _needed(cfg, splits):
        if place.endswith('ann_file') and same_file(target, path.parent):
            raise UserError(f'{option} {target}: {path} lies in it and is read; choose another')


def missing_data(cfg: Config, splits: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Split and description of each file or folder that is missing, and of each folder that is empty."""
    for place, path in _needed(cfg, splits):
        split = place.partition('_')[0]
        if path.is_dir():
            if not any(path.iterdir()):
                yield split, f'{path.absolute()} is empty ({place})'
        elif not path.exists():
            yield split, f'{path.absolute()} not found ({place})'


def _needed(cfg: Config, splits: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Place in the config and path of each file and folder that is read."""
    for place, dataset in _datasets(cfg, splits):
        root = dataset.get('data_root') or ''
        if root:
            yield f'{place}.data_root', Path(root)
        entries = {'ann_file': dataset.get('ann_file'), **_prefixes(dataset)}
        for key, value in entries.items():
            if isinstance(value, str) and value and '://' not in value:
                yield f'{place}.{key}', Path(os.path.join(root, value))
    for split, evaluator in _evaluators(cfg, splits):
        if cfg.get(f'{split}_dataloader') and _is_local(evaluator) and evaluator.get('ann_file'):
            yield f'{split}_evaluator.ann_file', Path(evaluator['ann_file'])


def _image_folders(cfg: Config, splits: Sequence[str]) -> Iterator[Path]:
    for _, dataset in _datasets(cfg, splits):
        root = dataset.get('data_root') or ''
        for prefix in _prefixes(dataset).values() or ['']:
            if isinstance(prefix, str) and (root or prefix):
                yield Path(os.path.join(root, prefix))


def _datasets(cfg: Config, splits: Sequence[str]) -> Iterator[tuple[str, dict]]:
    """Place and config of each data set on this file system."""
    for split in splits:
        loader, place = cfg.get(f'{split}_dataloader') or {}, f'{split}_dataloader.dataset'
        for inner, dataset in innermost_datasets(loader.get('dataset'), place):
            if _is_local(dataset):
                yield inner, dataset


def _prefixes(dataset: dict) -> dict[str, str]:
    prefixes = dataset.get('data_prefix') or {}
    if isinstance(prefixes, str):  # mmpretrain's
        return {'data_prefix': prefixes}
    return {f'data_prefix.{key}': value for key, value in prefixes.items()}


def _evaluators(cfg: Config, splits: Sequence[str]) -> Iterator[tuple[str, dict]]:
    for split in splits:
        for evaluator in as_list(cfg.get(f'{split}_evaluator')):
            yield split, evaluator


def _is_local(node: dict) -> bool:
    """False for data on another file system (petrel, http, ...), which only mmengine can reach."""
    backend = (node.get('backend_args') or {}).get('backend', 'local')
    place = str(node.get('data_root') or node.get('ann_file') or '')
    return backend == 'local' and '://' not in place
