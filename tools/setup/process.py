"""Run a long command into a log file, with a heartbeat on the terminal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

TAIL_LINES = 20
ERROR_LINES = 5
ERROR = re.compile(r'\b(fatal )?error: ', re.IGNORECASE)
HEARTBEAT_S = 30
WIDTH = 100


class StepFailed(Exception):
    """A command of the set-up failed; the message is for the user."""


def read_lines(log: Path, start: int) -> list:
    """The non-empty lines that were written to `log` from byte `start` on."""
    with log.open('rb') as file:
        file.seek(start)
        return [line for line in file.read().decode(errors='replace').splitlines() if line.strip()]


def last_line(log: Path) -> str:
    lines = read_lines(log, max(0, log.stat().st_size - 4096))
    return lines[-1].strip() if lines else ''


def excerpt(log: Path, start: int) -> str:
    """What explains a failure: the first lines that name an error, and the last lines."""
    lines = read_lines(log, start)
    errors = [line for line in lines[:-TAIL_LINES] if ERROR.search(line)][:ERROR_LINES]
    return '\n'.join(f'    {line}' for line in [*errors, '...', *lines[-TAIL_LINES:]])


def say(text: str, overwrite: bool) -> None:
    """Print a line, or on a terminal rewrite the current one."""
    print(f'\r{text:<{WIDTH}.{WIDTH}}' if overwrite else text, end='' if overwrite else '\n')
    sys.stdout.flush()


def run_logged(
    title: str,
    command: Sequence[str],
    log: Path,
    env: dict,
    lock_fd: int,
    progress: Callable[[], str] | None = None,
) -> None:
    """Run `command`, append its output to `log`, and say now and then how far it is.

    Args:
        lock_fd: the set-up's lock. The child inherits it, so that the lock outlives a set-up
            that was killed while its child still works.
        progress: gives the text of the heartbeat; without it, the last line of the log.

    Raises:
        StepFailed: the command failed; the message holds the end of the log.
    """
    terminal = sys.stdout.isatty()
    print(f'{title} ...', flush=True)
    began = time.monotonic()

    def elapsed() -> str:
        return '{}:{:02d}'.format(*divmod(int(time.monotonic() - began), 60))

    with log.open('ab') as output:
        start = output.tell()
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            pass_fds=(lock_fd,),
            start_new_session=True,
        )
        try:
            while True:
                try:
                    child.wait(1 if terminal else HEARTBEAT_S)
                    break
                except subprocess.TimeoutExpired:
                    text = progress() if progress else last_line(log)
                    say(f'  {elapsed()}  {text}'[:WIDTH], overwrite=terminal)
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGTERM)
                child.wait()
    if terminal:
        say('', overwrite=True)
        print('\r', end='')
    if child.returncode:
        raise StepFailed(f'{title} failed; the log is {log}:\n{excerpt(log, start)}')
    print(f'  done in {elapsed()}', flush=True)
