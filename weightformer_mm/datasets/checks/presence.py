"""Is the data set there, and would nothing overwrite it? Checked before a model is built."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

from mmengine.config import Config

from ...config.read import innermost_datasets, metrics_of
from ...errors import UserError
from ...utils.writing import lies_in, refuse_inside, same_file


def check_data(cfg: Config, splits: Sequence[str]) -> None:
    """Look for the files and folders that the data loaders and evaluators name.

    Args:
        splits: some of 'train', 'val' and 'test'; a split without a data loader is skipped.

    Raises:
        UserError: something is missing or a folder is empty; the message names the command that makes the
            data if the config has it as ``prepare_data``. Or an evaluator would overwrite the data.
    """
    missing = [text for _, text in missing_data(cfg, splits)]
    if missing:
        more = f' and {len(missing) - 1} more' if len(missing) > 1 else ''
        command = cfg.get('prepare_data')
        remedy = f'make it with: {command}' if command else 'set data_root in the config'
        raise UserError(f'data set: {missing[0]}{more}; {remedy}')
    for split, key in product(splits, ('output_dir', 'outfile_prefix')):
        for evaluator in metrics_of(cfg.get(f'{split}_evaluator')):
            if evaluator.get(key):
                option, target = f'{split}_evaluator.{key}', Path(evaluator[key])
                refuse_data(cfg, splits, option, target)
                for folder in _image_folders(cfg, splits):  # Cityscapes metrics empty the target
                    if lies_in(folder, target):
                        raise UserError(
                            f'{option} {target}: {folder}, which is read, lies in it; choose another'
                        )


def refuse_data(cfg: Config, splits: Sequence[str], option: str, target: Path) -> None:
    """Raise UserError if ``target`` lies in a folder of images or labels, or is an annotation file's folder.

    The message begins with ``option``, which named the target.
    """
    refuse_inside(option, [target], _image_folders(cfg, splits))
    for place, path in _needed(cfg, splits):
        if place.endswith('ann_file') and same_file(target, path.parent):
            raise UserError(f'{option} {target}: {path} lies in it and is read; choose another')


def missing_data(cfg: Config, splits: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Split and description of each file or folder that is missing or cannot be read, or is empty."""
    seen = set()
    for place, path in _needed(cfg, splits):
        split, problem = place.partition('_')[0], _problem(path)
        if problem and (split, path) not in seen:
            seen.add((split, path))
            yield split, f'{path.absolute()} {problem} ({place})'


def _problem(path: Path) -> str | None:
    try:
        if not path.is_dir():
            kind = None if path.is_file() else 'is neither a file nor a folder'
            return kind if path.exists() else 'not found'
        with os.scandir(path) as found:
            return None if any(found) else 'is empty'
    except OSError as error:
        return f'cannot be read: {error.strerror}'


def _image_folders(cfg: Config, splits: Sequence[str]) -> list[Path]:
    return [path for place, path in _needed(cfg, splits) if '.data_prefix' in place]


def _needed(cfg: Config, splits: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """For each file and folder that is read from this file system: its place in the config, and its path."""
    for split in splits:
        loader = cfg.get(f'{split}_dataloader') or {}
        for place, dataset in innermost_datasets(
            loader.get('dataset'), f'{split}_dataloader.dataset'
        ):
            if _is_local(dataset):
                yield from ((f'{place}.{key}', path) for key, path in _parts(dataset))
        for evaluator in metrics_of(cfg.get(f'{split}_evaluator')) if loader else ():
            if _is_local(evaluator) and evaluator.get('ann_file'):
                yield f'{split}_evaluator.ann_file', Path(evaluator['ann_file'])


def _parts(dataset: dict) -> Iterator[tuple[str, Path]]:
    root, prefixes = dataset.get('data_root') or '', dataset.get('data_prefix') or ''
    if isinstance(prefixes, str):  # mmpretrain's
        prefixes = {'': prefixes}
    parts = {f'data_prefix.{key}'.rstrip('.'): prefix for key, prefix in prefixes.items()}
    parts = {'data_root': '', 'ann_file': dataset.get('ann_file') or None, **parts}
    for key, value in parts.items():
        if isinstance(value, str) and (root or value) and '://' not in value:
            yield key, Path(root, value)


def _is_local(node: dict) -> bool:
    """False for data on another file system (petrel, http, ...), which only mmengine can reach."""
    backend = (node.get('backend_args') or {}).get('backend', 'local')
    place = str(node.get('data_root') or node.get('ann_file') or '')
    return backend == 'local' and '://' not in place
