"""mmengine's runner, with data errors that name the file and checkpoints that appear whole or not at all."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.logging import MMLogger
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from .annotation_guard import check_categories, checked_coco_files
from .config import innermost_dataset
from .errors import UserError
from .image_guard import name_unreadable_images

_forwarded: list[logging.Handler] = []


class CheckedRunner(Runner):
    """``mmengine.runner.Runner`` with errors for the user and atomic checkpoints; nothing else differs."""

    @staticmethod
    def build_dataloader(
        dataloader: Any, seed: int | None = None, diff_rank_seed: bool = False
    ) -> Any:
        try:
            with checked_coco_files():
                loader = Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        except json.JSONDecodeError as error:
            raise UserError(f'{_annotations(dataloader)} is not valid JSON: {error}') from error
        except ValueError as error:
            problem = _explain(str(error), dataloader)
            if problem is None:
                raise
            raise UserError(problem) from error
        check_categories(loader.dataset)
        name_unreadable_images(loader.dataset)
        return loader

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        _forward_messages(logger)
        return logger

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        if '://' in str(out_dir):
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
            return
        partial = f'.{filename}.partial'
        try:
            super().save_checkpoint(out_dir, partial, *args, **kwargs)
            if is_main_process():
                os.replace(os.path.join(out_dir, partial), os.path.join(out_dir, filename))
        finally:
            if is_main_process():
                Path(out_dir, partial).unlink(missing_ok=True)


def build_runner(cfg: Config) -> Runner:
    """The runner that ``cfg.runner_type`` names, else :class:`CheckedRunner`."""
    return RUNNERS.build(cfg) if 'runner_type' in cfg else CheckedRunner.from_cfg(cfg)


def _forward_messages(logger: MMLogger) -> None:
    """What the package says for itself, such as which backend runs, goes to the log of the latest run."""
    package = logging.getLogger('weightformer_mm')
    package.setLevel(logging.INFO)
    for handler in _forwarded:
        package.removeHandler(handler)
    _forwarded[:] = logger.handlers
    for handler in _forwarded:
        package.addHandler(handler)


def _annotations(dataloader: Any) -> str:
    dataset = innermost_dataset(dataloader)
    path = os.path.join(dataset.get('data_root') or '', dataset.get('ann_file') or '')
    return path or 'the annotation file'


def _explain(text: str, dataloader: Any) -> str | None:
    if 'need at least one array' in text:
        return (
            f'no image of {_annotations(dataloader)} is left to use: none has objects of the '
            "data set's classes (metainfo) after filter_cfg; are the class names those of the file?"
        )
    if 'persistent_workers' in text:
        return 'a data loader with num_workers=0 needs persistent_workers=False as well'
    return None
