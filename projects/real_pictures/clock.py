"""Time of a training that may have been stopped and continued."""

from __future__ import annotations

import time
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

SECONDS, CPU_SECONDS = 'training_seconds', 'training_cpu_seconds'


@HOOKS.register_module()
class ClockHook(Hook):
    """Note the seconds and processor seconds so far in every checkpoint, so that a resumed run goes on."""

    priority = 'HIGH'  # before the checkpoint is written

    def before_train(self, runner: Any) -> None:
        seconds, cpu_seconds = (
            runner.message_hub.runtime_info.get(name, 0.0) for name in (SECONDS, CPU_SECONDS)
        )
        self._start = time.monotonic() - seconds, time.process_time() - cpu_seconds

    def after_train_epoch(self, runner: Any) -> None:
        runner.message_hub.update_info(SECONDS, time.monotonic() - self._start[0])
        runner.message_hub.update_info(CPU_SECONDS, time.process_time() - self._start[1])
