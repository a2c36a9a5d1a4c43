"""The frame around every command line: errors for the user become one line and an exit code."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any, Callable

from .errors import Interrupted
from .translate import explain


def run_tool(main: Callable[..., None], *args: Any) -> int:
    """Run ``main(*args)`` as a command line and return its exit code.

    Errors that the user can put right become one line on stderr, ``<tool>: error: <message>``. Every other
    exception is a programming error and keeps its traceback.
    """
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
