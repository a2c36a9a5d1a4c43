"""Errors that the user can put right, and the wrapper that turns them into one line."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any, Callable


class UserError(Exception):
    """Bad input. The message is one line: what is wrong, where, and what to do."""

    exit_code = 2


class RunFailed(UserError):
    """A run that began well and cannot go on (diverged, out of memory); another exit code than bad input."""

    exit_code = 1


class Interrupted(UserError):
    """Stopped by Ctrl-C; the message says how to go on."""

    exit_code = 130


def run_tool(main: Callable[..., None], *args: Any) -> int:
    """Run ``main(*args)`` as a command line and return its exit code.

    Errors that the user can put right become one line on stderr, ``<tool>: error: <message>``. Every other
    exception is a programming error and keeps its traceback.
    """
    from .translate import explain

    _warnings_to_stdout()
    tool = Path(sys.argv[0]).name
    try:
        main(*args)
    except KeyboardInterrupt:
        print(f'{tool}: interrupted', file=sys.stderr)
        return Interrupted.exit_code
    except Exception as error:
        problem = explain(error)
        if problem is None:
            raise
        print(f'{tool}: error: {" ".join(str(problem).split())}', file=sys.stderr)
        return problem.exit_code
    return 0


def _warnings_to_stdout() -> None:
    """The libraries warn a lot; their warnings belong to the log, and stderr to errors."""
    logging.captureWarnings(True)
    logging.getLogger('py.warnings').addHandler(logging.StreamHandler(sys.stdout))
    # an optional evaluator of onedl-mmdetection that nothing here uses
    warnings.filterwarnings('ignore', message='faster_coco_eval is not installed')
