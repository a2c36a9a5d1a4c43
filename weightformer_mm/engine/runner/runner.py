"""mmengine's runners, with data errors that name the file and checkpoints that appear whole or not at all."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from mmengine.runner._flexible_runner import FlexibleRunner
from torch import nn

from ...config.read import innermost_dataset, type_name
from ...datasets.guards.annotations import check_categories, checked_coco_files
from ...datasets.guards.images import name_unreadable_images
from ...datasets.rules.coco import repeated_ids
from ...errors import RunFailed, UserError
from ...utils.interrupts import uninterrupted
from ...utils.writing import written_whole
from ..hooks.checkpoint import KeepingCheckpointHook
from .fsdp import ShardedStrategy, refuse_averaging
from .randomness import seed_samples
from .run_state import CheckRunStateHook

_forwarded: list[logging.Handler] = []


class _Checked:
    """What both runners have besides: errors for the user and atomic checkpoints."""

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
        seed_samples(loader)
        return loader

    def build_evaluator(self, evaluator: Any) -> Any:
        # it may read another file than the data set does, and needs less of it
        with checked_coco_files(repeated_ids):
            return super().build_evaluator(evaluator)

    def register_hook(self, hook: Any, priority: Any = None) -> None:
        if isinstance(hook, dict) and 'type' in hook and type_name(hook) == 'CheckpointHook':
            hook = {**hook, 'type': KeepingCheckpointHook}
        super().register_hook(hook, priority)

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        self.register_hook(CheckRunStateHook(filename))
        super().resume(filename, *args, **kwargs)

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        if '://' in str(out_dir) or not is_main_process():
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
            return
        try:
            Path(out_dir).mkdir(parents=True, exist_ok=True)
            with uninterrupted(), written_whole(Path(out_dir, filename)) as partial:
                super().save_checkpoint(out_dir, partial.name, *args, **kwargs)
        except OSError as error:
            reason = error.strerror or error
            raise RunFailed(f'cannot write {Path(out_dir, filename)}: {reason}') from error


class CheckedRunner(_Checked, Runner):
    """``mmengine.runner.Runner`` with errors for the user and atomic checkpoints."""

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        _forward_messages(logger)
        return logger

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        if self.distributed and torch.device(get_device()).type == 'cpu':
            model = without_sync_batchnorm(model, self.logger)
        return super().wrap_model(model_wrapper_cfg, model)


class CheckedFlexibleRunner(_Checked, FlexibleRunner):
    """``mmengine.runner.FlexibleRunner`` with errors for the user and atomic checkpoints.

    The model is built at once, not when the training starts, so that it can be looked at before.

    Raises:
        UserError: a sharded model whose weights are to be averaged.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _forward_messages(self.logger)
        if isinstance(self.strategy, ShardedStrategy):
            refuse_averaging(self.hooks)
        self.model = self.strategy.build_model(self.model)
        if torch.device(get_device()).type == 'cpu':
            self.model = without_sync_batchnorm(self.model, self.logger)

    def train(self) -> nn.Module:
        if isinstance(self.strategy, ShardedStrategy):
            self.optim_wrapper = self.strategy.build_whole_optim_wrapper(
                self.optim_wrapper, self.model
            )
        return super().train()


def build_runner(cfg: Config, trains: bool = True) -> Runner | FlexibleRunner:
    """The runner that ``cfg.runner_type`` names, else :class:`CheckedRunner`.

    Args:
        trains: False for a run that needs no strategy of training; every checkpoint holds a whole model.
    """
    kind = cfg.get('runner_type', 'Runner')
    if kind == 'Runner' or not trains:
        return CheckedRunner.from_cfg(cfg)
    if kind == 'FlexibleRunner':
        return CheckedFlexibleRunner.from_cfg(cfg)
    return RUNNERS.build(cfg)


def without_sync_batchnorm(model: nn.Module, logger: MMLogger) -> nn.Module:
    """``model`` with BatchNorm for SyncBatchNorm, which torch has for GPUs only; says so if there is any."""
    if any('SyncBatchNorm' in type(module).__name__ for module in model.modules()):
        logger.warning(
            'SyncBatchNorm works on GPUs only: on the CPU each process normalises by the statistics of its '
            'own images (BatchNorm)'
        )
    return revert_sync_batchnorm(model)


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
