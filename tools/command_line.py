"""What the command lines share. It needs no library, so that --help and a wrong option answer at once."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('config', metavar='CONFIG', help='config file; it says which task')


def add_config_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        default=[],
        metavar='KEY=VALUE',
        help='change the config',
    )


def add_data_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--data-root',
        metavar='DIR',
        help="where the data lie (default: the config's data_root)",
    )


def add_score_threshold(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        help='detections below it are not drawn (default: 0.3)',
    )


def add_launcher(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--launcher', choices=('none', 'pytorch', 'slurm', 'mpi'), default='none')


def run(
    parse_args: Callable[[], argparse.Namespace], main: Callable[[argparse.Namespace], None]
) -> None:
    """Parse the arguments, run ``main`` on them and exit, with one line where the user is at fault."""
    arguments = parse_args()
    # an interrupted import leaves a library half made, which then fails in ways of its own
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in handlers.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _quit)
    sys.path.append(str(Path(__file__).resolve().parents[1]))  # where `projects` lies
    from weightformer_mm.apis.tool import run_tool  # imports the libraries, which takes seconds

    for number, handler in handlers.items():
        signal.signal(number, handler)
    sys.exit(run_tool(main, arguments))


def _quit(number: int, frame: object) -> None:
    word = 'interrupted' if number == signal.SIGINT else 'terminated'
    os.write(2, f'{os.path.basename(sys.argv[0])}: {word}\n'.encode())
    os._exit(128 + number)
