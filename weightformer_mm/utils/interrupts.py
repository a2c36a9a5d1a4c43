"""Ctrl-C and SIGTERM: one line and an exit code, and never in the middle of a file."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ..errors import Interrupted, Terminated

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Termination(KeyboardInterrupt):
    """SIGTERM, raised where the program stands; whatever handles Ctrl-C handles it too."""


def handle_signals() -> None:
    """Let both signals raise; where the process was started to ignore one, it still does.

    One of several processes dies of SIGTERM at once: it may wait for another that is gone, where no
    exception reaches it.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    alone = os.environ.get('WORLD_SIZE', '1') == '1'
    if alone and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _raise_termination)


def stopped_by(interrupt: KeyboardInterrupt, way_on: str = '') -> Interrupted:
    """The error that a tool ends with; ``way_on`` says how to go on."""
    is_termination = isinstance(interrupt, Termination)
    kind, word = (Terminated, 'terminated') if is_termination else (Interrupted, 'interrupted')
    return kind(f'{word}{way_on}')


def forget_workers() -> None:
    """Let workers of data loaders end as they will: torch raises for each, wherever the program then is."""
    if hasattr(signal, 'SIGCHLD') and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold both signals back until the block ends."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    held = [number for number, handler in handlers.items() if callable(handler)]
    for number in held:
        signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number in held:
            signal.signal(number, handlers[number])
        if came:
            signal.raise_signal(came[0])


def _raise_termination(number: int, frame: FrameType | None) -> None:
    raise Termination
