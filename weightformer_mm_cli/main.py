# PYTHON_ARGCOMPLETE_OK
"""The console command ``weightformer-mm``, and each of its commands alone."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from importlib import import_module

from .options import expand_weights
from .running import run

COMMANDS = (
    *('train', 'test', 'infer', 'check-dataset', 'browse'),
    *('complexity', 'erf', 'convert', 'export', 'make-shapes'),
)


def main(command: str | None = None) -> None:
    """Run the command that the first argument names, or ``command``, and exit."""
    parser = argparse.ArgumentParser() if command else _parser_of_all()
    if command:
        _fill(parser, command)
    if '_ARGCOMPLETE' in os.environ:  # the shell asks for what may come next
        with suppress(ImportError):
            import argcomplete

            argcomplete.autocomplete(parser)
    run(lambda: parser.parse_args(expand_weights(sys.argv[1:], command)), _call)


def _parser_of_all() -> argparse.ArgumentParser:
    text = 'Train, evaluate and look into detectors, segmentors and classifiers.'
    parser = argparse.ArgumentParser(description=text)
    commands = parser.add_subparsers(required=True, metavar='COMMAND')
    for name in COMMANDS:
        text = import_module(f'{__package__}.{name.replace("-", "_")}').__doc__.splitlines()[0]
        _fill(commands.add_parser(name, help=text), name)
    return parser


def _fill(parser: argparse.ArgumentParser, command: str) -> None:
    module = import_module(f'{__package__}.{command.replace("-", "_")}')
    parser.description = module.__doc__
    parser.set_defaults(call=module.call)
    module.add_arguments(parser)


def _call(arguments: argparse.Namespace) -> None:
    values = vars(arguments)
    values.pop('call')(**values)
