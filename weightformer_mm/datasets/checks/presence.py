"""Is the data set there? Asked before a model is built."""

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
        splits: of 'train', 'val' and 'test'; a split without a data loader is passed over.

    Raises:
        UserError: something is missing or a folder is empty; names the command that makes the data where
            the config has it as ``prepare_data``.
    """
    missing = [text for _, text in missing_data(cfg, splits)]
    if missing:
        more = f' and {len(missing) - 1} more' if len(missing) > 1 else ''
        command = cfg.get('prepare_data')
        remedy = f'make it with: {command}' if command else 'set data_root in the config'
        raise UserError(f'data set: {missing[0]}{more}; {remedy}')
    for split in splits:
        for evaluator in as_list(cfg.get(f'{split}_evaluator')):
            for key in ('output_dir', 'outfile_prefix'):
                if evaluator.get(key):
                    _refuse_evaluator(cfg, splits, f'{split}_evaluator.{key}', Path(evaluator[key]))


def refuse_data(cfg: Config, splits: Sequence[str], option: str, target: Path) -> None:
    """Raise UserError if ``target`` lies in a folder of images or labels, or is that of an annotation file.

    Args:
        option: what named ``target``, for the message.
    """
    refuse_inside(option, [target], _picture_folders(cfg, splits))
    for place, path in _needed(cfg, splits):
        if place.endswith('ann_file') and same_file(target, path.parent):
            raise UserError(
                f'{option} {target}: the folder of {path}, which is read; choose another'
            )


def _picture_folders(cfg: Config, splits: Sequence[str]) -> Iterator[Path]:
    for split in splits:
        loader = cfg.get(f'{split}_dataloader') or {}
        for _, dataset in innermost_datasets(loader.get('dataset'), ''):
            root = dataset.get('data_root') or ''
            prefixes = dataset.get('data_prefix') or ''
            for prefix in prefixes.values() if isinstance(prefixes, dict) else [prefixes]:
                if isinstance(prefix, str) and (root or prefix) and _is_local(dataset):
                    yield Path(os.path.join(root, prefix))


def _refuse_evaluator(cfg: Config, splits: Sequence[str], place: str, target: Path) -> None:
    """Cityscapes' evaluators remove the whole folder that they write to."""
    refuse_data(cfg, splits, place, target)
    for folder in _picture_folders(cfg, splits):
        if lies_in(folder, target):
            raise UserError(
                f'{place} {target}: {folder}, which is read, lies in it; choose another'
            )


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
    for split in splits:
        loader = cfg.get(f'{split}_dataloader')
        if loader is None:
            continue
        for place, dataset in innermost_datasets(
            loader.get('dataset'), f'{split}_dataloader.dataset'
        ):
            yield from _dataset_paths(dataset, place)
        for evaluator in as_list(cfg.get(f'{split}_evaluator')):
            if _is_local(evaluator) and evaluator.get('ann_file'):
                yield f'{split}_evaluator.ann_file', Path(evaluator['ann_file'])


def _dataset_paths(dataset: dict, place: str) -> Iterator[tuple[str, Path]]:
    if not _is_local(dataset):
        return
    root = dataset.get('data_root') or ''
    entries = {'ann_file': dataset.get('ann_file')}
    prefixes = dataset.get('data_prefix')  # mmpretrain also takes one string
    if isinstance(prefixes, str):
        entries['data_prefix'] = prefixes
    if isinstance(prefixes, dict):
        entries.update({f'data_prefix.{key}': value for key, value in prefixes.items()})
    if root:
        yield f'{place}.data_root', Path(root)
    for key, value in entries.items():
        if isinstance(value, str) and value and '://' not in value:
            yield f'{place}.{key}', Path(os.path.join(root, value))


def _is_local(node: dict) -> bool:
    """False for data on another file system (petrel, http, ...), which only mmengine can reach."""
    backend = (node.get('backend_args') or {}).get('backend', 'local')
    return backend == 'local' and '://' not in str(
        node.get('data_root') or node.get('ann_file') or ''
    )
