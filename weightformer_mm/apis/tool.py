"""The frame around every command line: errors for the user become one line and an exit code."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any, Callable

from ..utils.interrupts import forget_workers, handle_signals, stopped_by, uninterrupted
from ..utils.translate import explain


def run_tool(main: Callable[..., None], *args: Any) -> int:
    """Run ``main(*args)`` as a command line and return its exit code.

    Errors that the user can put right become one line on stderr, ``<tool>: error: <message>``. Every other
    exception is a programming error and keeps its traceback.
    """
    handle_signals()
    _warnings_to_stdout()
    try:
        main(*args)
    except KeyboardInterrupt as interrupt:
        forget_workers()
        problem = stopped_by(interrupt)
        _say(str(problem))
    except Exception as error:
        forget_workers()
        problem = explain(error)
        if problem is None:
            raise
        _say(f'error: {problem}')
    else:
        return 0
    return problem.exit_code


def _say(message: str) -> None:
    with uninterrupted():  # a second Ctrl-C must not spoil the line
        line = f'{Path(sys.argv[0]).name}: {" ".join(message.split())}'
        print(line, file=sys.stderr, flush=True)


def _warnings_to_stdout() -> None:
    """The libraries warn a lot; their warnings belong to the log, and stderr to errors."""
    logging.captureWarnings(True)
    logging.getLogger('py.warnings').addHandler(logging.StreamHandler(sys.stdout))
    logging.raiseExceptions = (
        False  # a log that cannot be written is no reason for a traceback a line
    )
    # an optional evaluator of onedl-mmdetection that nothing here uses
    warnings.filterwarnings('ignore', message='faster_coco_eval is not installed')
