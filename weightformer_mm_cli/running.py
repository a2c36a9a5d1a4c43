"""Run a command: signals, exit codes, and one line for an error of the user's."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

_TRACEBACK = 'WEIGHTFORMER_TRACEBACK'


def run(
    parse_args: Callable[[], argparse.Namespace], main: Callable[[argparse.Namespace], None]
) -> None:
    """Parse the arguments, run ``main`` on them and exit; an error of the user's gives one line."""
    arguments = parse_args()
    # an interrupted import leaves a library half loaded, which then fails in ways of its own
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in handlers.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _quit)
    # what is wrong with an image is one line; OpenCV says it in several, in its own words
    os.environ.setdefault('OPENCV_LOG_LEVEL', 'SILENT')
    import weightformer_mm.utils.interrupts  # noqa: F401  imports the libraries, which takes seconds

    for number, handler in handlers.items():
        signal.signal(number, handler)
    sys.exit(run_tool(main, arguments))


def run_tool(main: Callable[..., None], *arguments: Any) -> int:
    """Run ``main(*arguments)`` as a command line and return its exit code.

    Errors that the user can put right become one line on stderr, ``<tool>: error: <message>``. Every other
    exception is a programming error and keeps its traceback. If the environment variable
    ``WEIGHTFORMER_TRACEBACK`` is set, all do, for those who write their own modules.
    """
    from weightformer_mm.utils.interrupts import forget_workers, stopped_by
    from weightformer_mm.utils.translate import explain

    _handle_signals()
    _warnings_to_stdout()
    try:
        main(*arguments)
    except KeyboardInterrupt as interrupt:
        forget_workers()
        problem = stopped_by(interrupt)
        _say(str(problem))
    except Exception as error:
        forget_workers()
        problem = explain(error)
        if problem is None or os.environ.get(_TRACEBACK):
            raise
        _say(f'error: {problem}')
    else:
        return 0
    return problem.exit_code


def _say(message: str) -> None:
    from weightformer_mm.utils.interrupts import uninterrupted

    with uninterrupted():  # a second Ctrl-C must not spoil the line
        line = f'{Path(sys.argv[0]).name}: {" ".join(message.split())}'
        print(line, file=sys.stderr, flush=True)


def _handle_signals() -> None:
    """Let both signals raise, except one that the process was started to ignore.

    One of several processes dies of SIGTERM at once: it may be waiting for another that is gone, where no
    exception reaches it.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    is_alone = os.environ.get('WORLD_SIZE', '1') == '1'
    if is_alone and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _raise_termination)
        _forks_die_of_termination()


class _Fork(threading.local):
    """Of one thread: whether a callback of a fork runs, and what was blocked before it."""

    is_running = False
    blocked: set[int] = set()


_fork = _Fork()


def _raise_termination(number: int, frame: object) -> None:
    if _fork.is_running:  # what a callback raises is printed and lost
        later = threading.Timer(0.01, os.kill, (os.getpid(), number))
        later.daemon = True
        later.start()
        return
    from weightformer_mm.utils.interrupts import Termination

    raise Termination


@cache
def _forks_die_of_termination() -> None:
    """What the tool forks, such as a pool of an evaluator, dies of SIGTERM at once, without a word.

    The signal waits until the new process handles it so: Python forgets what arrives earlier.
    """

    def hold() -> None:
        _fork.is_running = True
        _fork.blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def release() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _fork.blocked)
        _fork.is_running = False

    def die() -> None:
        if signal.getsignal(signal.SIGTERM) is _raise_termination:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        release()

    os.register_at_fork(before=hold, after_in_parent=release, after_in_child=die)


def _warnings_to_stdout() -> None:
    """The libraries warn a lot; their warnings belong to the log, and stderr to errors."""
    logging.captureWarnings(True)
    logging.getLogger('py.warnings').addHandler(logging.StreamHandler(sys.stdout))
    logging.raiseExceptions = False  # no traceback for each line of a log that cannot be written
    # an optional evaluator of onedl-mmdetection that nothing here uses
    warnings.filterwarnings('ignore', message='faster_coco_eval is not installed')


def _quit(number: int, frame: object) -> None:
    word = 'interrupted' if number == signal.SIGINT else 'terminated'
    os.write(2, f'{os.path.basename(sys.argv[0])}: {word}\n'.encode())
    os._exit(128 + number)
