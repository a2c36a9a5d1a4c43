"""Ctrl-C and SIGTERM: one line and an exit code, and never in the middle of a file."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import Interrupted, Terminated

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Termination(KeyboardInterrupt):
    """SIGTERM as an exception, raised wherever the program is; code that handles Ctrl-C handles it too."""


def stopped_by(interrupt: KeyboardInterrupt, way_on: str = '') -> Interrupted:
    """The error that ends a tool; ``way_on`` says how to go on."""
    is_termination = isinstance(interrupt, Termination)
    kind, word = (Terminated, 'terminated') if is_termination else (Interrupted, 'interrupted')
    return kind(f'{word}{way_on}')


def forget_workers() -> None:
    """Ignore the end of data loader workers: torch would raise for each one, wherever the program is then."""
    if hasattr(signal, 'SIGCHLD') and _is_main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back both signals until the block ends."""
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in _SIGNALS if _is_main_thread()}
    held = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in held:
        signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
