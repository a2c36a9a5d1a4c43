"""Does harm to the training whose config imports it, as ``HARM`` in the environment says, in JSON.

- ``{"deed": NAME, "iteration": N}``: something after an iteration; ``{"while saving": NAME}``: then.
- ``{"folder": DIR, "operation": N}``: dies at the N-th thing it does to a file of that folder, a write in
  its middle; with ``"count": FILE`` it leaves the number of such things in a file.
- ``{"truncate": IMAGE}``: cuts a file off after each epoch.
"""

from __future__ import annotations

import atexit
import builtins
import io
import json
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

HARM = json.loads(os.environ.get('HARM') or '{}')
_PROCESS = os.getpid()
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def kill(runner: Any = None) -> None:
    """Workers that were writing to the process would wait forever, so they go first."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch looks after them
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def kill_worker(runner: Any) -> None:
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)


def spoil_weight(runner: Any) -> None:
    with torch.no_grad():
        next(runner.model.parameters()).view(-1)[0] = float('nan')


def send(number: int) -> Any:
    return lambda runner: os.kill(os.getpid(), number)


DEEDS = {
    'kill': kill,
    'kill worker': kill_worker,
    'spoil weight': spoil_weight,
    'SIGINT': send(signal.SIGINT),
    'SIGTERM': send(signal.SIGTERM),
}


@HOOKS.register_module(force=True)
class HarmHook(Hook):
    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if runner.iter + 1 == HARM.get('iteration'):
            DEEDS[HARM['deed']](runner)

    def after_train_epoch(self, runner: Any) -> None:
        if 'truncate' in HARM:
            image = Path(HARM['truncate'])
            image.write_bytes(image.read_bytes()[:-100])

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        if 'while saving' in HARM:
            DEEDS[HARM['while saving']](runner)


class FileOperations:
    """Counts what the process does to the files of a folder, and ends it at one of them."""

    def __init__(self, folder: str, last: int) -> None:
        self.folder, self.last, self.count = os.path.abspath(folder), last, 0

    def install(self) -> None:
        sys.addaudithook(self.on_event)
        self.open = builtins.open
        builtins.open = io.open = self.opened
        fsync = os.fsync
        os.fsync = lambda file: (self.passed(), fsync(file))[1]

    def concerns(self, path: Any) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        folder, name = os.path.split(os.path.dirname(os.path.abspath(os.fsdecode(path))))
        return os.path.join(folder, name) == self.folder or (
            folder == self.folder
            and name.startswith('.partial-')  # of files that are not whole yet
        )

    def on_event(self, event: str, arguments: tuple) -> None:
        writes = event == 'open' and arguments[2] is not None and arguments[2] & _WRITING
        changes = event in ('os.rename', 'os.remove', 'os.truncate', 'os.link', 'os.symlink')
        if (writes or changes) and any(map(self.concerns, arguments[:2])):
            self.passed()

    def opened(self, path: Any, mode: str = 'r', *arguments: Any, **options: Any) -> Any:
        file = self.open(path, mode, *arguments, **options)
        if not self.concerns(path) or not set(mode) & set('wax+'):
            return file
        write = file.write

        def halved(data: Any) -> int:
            if os.getpid() == _PROCESS and self.count + 1 == self.last:
                write(data[: len(data) // 2])
                file.flush()
            self.passed()
            return write(data)

        file.write = halved
        return file

    def passed(self) -> None:
        if os.getpid() != _PROCESS:
            return
        self.count += 1
        if self.count == self.last:
            kill()


if 'folder' in HARM:
    operations = FileOperations(HARM['folder'], HARM.get('operation', 0))
    operations.install()
    if 'count' in HARM:
        atexit.register(lambda: Path(HARM['count']).write_text(str(operations.count)))
