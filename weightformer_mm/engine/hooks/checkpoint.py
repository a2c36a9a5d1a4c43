"""mmengine's checkpoints, but an old one is removed only once the new one is there."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from ...errors import UserError
from ...utils.writing import written_whole
from ..work_folder import NOTE, checkpoint_pattern
from .training import stop_if_not_finite


class KeepingCheckpointHook(CheckpointHook):
    """``CheckpointHook`` that loses no checkpoint to a kill or a full disk, and removes only its own files.

    An outdated checkpoint is removed once the new one is complete, on the disk and noted. Paths in a resumed
    checkpoint count only if they lead into this folder. Weights that are not finite raise RunFailed and are
    not saved. With ``save_best``, a resumed run first evaluates weights that may not have been evaluated
    after they were saved.
    """

    def before_train(self, runner: Any) -> None:
        known = inspect.signature(Runner.save_checkpoint).parameters
        unknown = [name for name in self.args if name not in known]
        if unknown:  # mmengine would pass them on when it saves
            raise UserError(f'config: default_hooks.checkpoint: unknown {", ".join(unknown)}')
        super().before_train(runner)
        if self.save_best and _stops_before_validation(runner):
            runner.logger.info('Evaluating the resumed weights, as an interrupted run may not have')
            runner.val_loop.run()

    def after_train(self, runner: Any) -> None:
        # mmengine publishes these, if asked to
        self.best_ckpt_path, self.best_ckpt_path_dict = None, {p: p for p in self._bests(runner)}
        super().after_train(runner)

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict) -> None:
        stop_if_not_finite(runner.model)
        outdated = self._take_turn(runner, step)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            with written_whole(Path(runner.work_dir, NOTE)) as partial:
                partial.write_text(self.last_ckpt)
            for path in outdated:
                self._remove(path)

    def _save_best_checkpoint(self, runner: Any, metrics: dict) -> None:
        if not self.save_best:
            return
        # mmengine would remove the earlier one before saving the next, if it knew about it
        self.best_ckpt_path, self.best_ckpt_path_dict = None, dict.fromkeys(self.key_indicators)
        earlier = self._bests(runner)
        super()._save_best_checkpoint(runner, metrics)
        if is_main_process():
            for path in earlier - self._bests(runner):
                self._remove(path)

    def _take_turn(self, runner: Any, step: int) -> Sequence[str]:
        """Note checkpoint ``step`` as kept, and return the paths of those no longer kept."""
        if self.max_keep_ckpts <= 0 or step in self.keep_ckpt_ids:
            return ()
        spare = max(0, len(self.keep_ckpt_ids) + 1 - self.max_keep_ckpts)
        names = [self.filename_tmpl.format(number) for number in self.keep_ckpt_ids][:spare]
        self.keep_ckpt_ids.append(step)
        runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        return [self.file_backend.join_path(self.out_dir, name) for name in names]

    def _bests(self, runner: Any) -> set[str]:
        """The best checkpoints so far that are in this run's folder, whatever paths a resumed one names."""
        info = runner.message_hub.runtime_info
        names = {Path(info[key]).name for key in info if key.startswith('best_ckpt')}
        pattern = checkpoint_pattern(self.filename_tmpl, 'best_.+_')
        own = (self.file_backend.join_path(self.out_dir, n) for n in names if pattern.fullmatch(n))
        return {path for path in own if self.file_backend.isfile(path)}

    def _remove(self, path: str) -> None:
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)


def _stops_before_validation(runner: Any) -> bool:
    """Whether the run continues from a checkpoint saved right before an evaluation."""
    loop = runner.train_loop
    if runner.val_loop is None or not isinstance(loop, (EpochBasedTrainLoop, IterBasedTrainLoop)):
        return False
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    now, last = (loop.epoch, loop.max_epochs) if by_epoch else (loop.iter, loop.max_iters)
    return 0 < now >= loop.val_begin and (now % loop.val_interval == 0 or now == last)
