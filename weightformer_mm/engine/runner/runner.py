"""mmengine's runners, with data errors that name the file, and checkpoints that appear only whole."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.hooks import EMAHook
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import HOOKS, METRICS, OPTIMIZERS, RUNNERS
from mmengine.runner import Runner
from mmengine.runner._flexible_runner import FlexibleRunner
from torch import nn

from ...config.read import metrics_of, type_name
from ...config.types import class_of
from ...datasets.guards.annotations import checked_coco_files, evaluations
from ...datasets.guards.loading import build_checked
from ...errors import ArgumentError, RunFailed, UserError
from ...utils.interrupts import uninterrupted
from ...utils.translate import blamed
from ...utils.writing import written_whole
from ..hooks.checkpoint import KeepingCheckpointHook
from ..hooks.drawing import DRAWING_HOOKS, on_loaded_images
from ..hooks.training import SchedulesHook
from .fsdp import ShardedStrategy
from .randomness import SeedIterationsHook, seeded_by_positions, with_positions
from .run_state import CheckRunStateHook

# what takes the place of mmengine's hooks
_OWN_HOOKS = {'CheckpointHook': KeepingCheckpointHook, 'ParamSchedulerHook': SchedulesHook}


class _Checked:
    """What both runners add to mmengine's: errors for the user, and atomic checkpoints."""

    _split = 'val'  # whose evaluation is built

    @staticmethod
    def build_dataloader(
        dataloader: Any, seed: int | None = None, diff_rank_seed: bool = False
    ) -> Any:
        def build(checked: Any) -> Any:
            return Runner.build_dataloader(seeded_by_positions(checked), seed, diff_rank_seed)

        return build_checked(dataloader, build)

    def build_train_loop(self, loop: Any) -> Any:
        if self.cfg.get('exact_resume'):
            self._train_dataloader = with_positions(self._train_dataloader)
            self.register_hook(SeedIterationsHook())
        return super().build_train_loop(loop)

    def build_val_loop(self, loop: Any) -> Any:
        self._split = 'val'
        return super().build_val_loop(loop)

    def build_test_loop(self, loop: Any) -> Any:
        self._split = 'test'
        return super().build_test_loop(loop)

    def build_evaluator(self, evaluator: Any) -> Any:
        loader = self.cfg.get(f'{self._split}_dataloader') or {}
        uses = evaluations(loader, metrics_of(evaluator))
        for metric in metrics_of(evaluator):
            _refuse_unread(metric)
        with checked_coco_files(uses, others=False):
            return super().build_evaluator(evaluator)

    def register_hook(self, hook: Any, priority: Any = None) -> None:
        name = type_name(hook)
        kind = _OWN_HOOKS.get(name)
        if name in DRAWING_HOOKS and hook.get('draw') and (found := class_of(hook, HOOKS)):
            kind = on_loaded_images(found)
        super().register_hook({**hook, 'type': kind} if kind else hook, priority)

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        check = CheckRunStateHook(filename)
        self.register_hook(check)
        with blamed(f'--resume {filename} cannot be continued from'):
            super().resume(filename, *args, **kwargs)
        if check.schedule:
            check.schedule.replay(self)

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        if '://' in str(out_dir) or not is_main_process():
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
            return
        try:
            Path(out_dir).mkdir(parents=True, exist_ok=True)
            with uninterrupted(), written_whole(Path(out_dir, filename)) as partial:
                super().save_checkpoint(str(partial.parent), partial.name, *args, **kwargs)
        except OSError as error:
            reason = error.strerror or error
            raise RunFailed(f'cannot write {Path(out_dir, filename)}: {reason}') from error


class CheckedRunner(_Checked, Runner):
    """``mmengine.runner.Runner`` with errors for the user, and atomic checkpoints."""

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        _forward_messages(logger)
        return logger

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        optimizer = optim_wrapper.get('optimizer') if isinstance(optim_wrapper, dict) else None
        kind = optimizer.get('type') if isinstance(optimizer, dict) else None
        if isinstance(kind, str) and OPTIMIZERS.get(kind) is None:  # mmengine does not look
            raise UserError(
                f'config: optim_wrapper.optimizer: type={kind!r} is not in the optimizer registry: it is '
                'misspelt, or custom_imports lacks its module'
            )
        return super().build_optim_wrapper(optim_wrapper)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        if self.distributed:
            model = _without_sync_batchnorm(model, self.logger)
        return super().wrap_model(model_wrapper_cfg, model)


class CheckedFlexibleRunner(_Checked, FlexibleRunner):
    """``mmengine.runner.FlexibleRunner`` with errors for the user, and atomic checkpoints.

    It builds the model at once, so that it can be checked before training. UserError: the model is both
    sharded and averaged.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _forward_messages(self.logger)
        is_averaged = any(isinstance(hook, EMAHook) for hook in self.hooks)
        if is_averaged and isinstance(self.strategy, ShardedStrategy):
            raise UserError(
                'config: EMAHook cannot average the weights of a sharded model; leave out either one'
            )
        model = self.strategy.build_model(self.model)
        self.model = _without_sync_batchnorm(model, self.logger)

    def train(self) -> nn.Module:
        if isinstance(self.strategy, ShardedStrategy):
            build = self.strategy.build_whole_optim_wrapper
            self.optim_wrapper = build(self.optim_wrapper, self.model)
        return super().train()


def build_runner(cfg: Config, trains: bool = True) -> Runner | FlexibleRunner:
    """The runner that ``cfg.runner_type`` names, by default `CheckedRunner`.

    Args:
        trains: False for evaluation, which needs no sharding: every checkpoint holds a whole model.
    """
    kind = cfg.get('runner_type', 'Runner') if trains else 'Runner'
    own = {'Runner': CheckedRunner, 'FlexibleRunner': CheckedFlexibleRunner}
    return own[kind].from_cfg(cfg) if kind in own else RUNNERS.build(cfg)


def _refuse_unread(metric: Any) -> None:
    """Raise ArgumentError for an unknown key of a metric of mmseg, which takes any and reads it not."""
    kind = class_of(metric, METRICS) if isinstance(metric, dict) and 'type' in metric else None
    if not getattr(kind, '__module__', '').startswith('mmseg.'):
        return
    known = {'type', '_scope_', *inspect.signature(kind).parameters}
    for key in metric.keys() - known:
        raise ArgumentError(f'{kind.__name__} got an unexpected key {key!r}')


def _without_sync_batchnorm(model: nn.Module, logger: MMLogger) -> nn.Module:
    """``model``, on a CPU with BatchNorm instead of SyncBatchNorm."""
    if torch.device(get_device()).type != 'cpu':
        return model
    if any('SyncBatchNorm' in type(module).__name__ for module in model.modules()):
        logger.warning('SyncBatchNorm works on GPUs only: each process has its own statistics')
    return revert_sync_batchnorm(model)


def _forward_messages(logger: MMLogger) -> None:
    """Send the package's own messages, such as which backend runs, to the log of the latest run."""
    package = logging.getLogger('weightformer_mm')
    package.setLevel(logging.INFO)
    package.handlers = list(logger.handlers)
