"""Options that several commands share."""

from __future__ import annotations

import argparse


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'config', metavar='CONFIG', help='config file, PACKAGE::FILE, or name of a recipe'
    )


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('checkpoint', metavar='CHECKPOINT', help='checkpoint of exactly that model')
    text = 'in place of CONFIG and CHECKPOINT: a recipe with weights that ship with it'
    add('--weights', metavar='NAME', default=argparse.SUPPRESS, help=text)


def expand_weights(arguments: list[str], command: str | None) -> list[str]:
    """Put CONFIG and CHECKPOINT in the place of ``--weights NAME``: argparse cannot leave them out.

    Args:
        arguments: of the program.
        command: its command; None if that is the first of the arguments.
    """
    first = 0 if command else 1
    if (command or ' '.join(arguments[:1])) not in ('infer', 'test', 'export'):
        return arguments
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument('--weights')
    given, rest = parser.parse_known_args(arguments)
    return [*rest[:first], *([given.weights] * 2 if given.weights else []), *rest[first:]]


def add_config_options(parser: argparse.ArgumentParser) -> None:
    options = dict(nargs='+', action='extend', default=[], metavar='KEY=VALUE')
    parser.add_argument('--cfg-options', dest='options', help='change the config', **options)


def add_data_root(parser: argparse.ArgumentParser) -> None:
    text = "folder of the data (default: the config's data_root)"
    parser.add_argument('--data-root', metavar='DIR', help=text)


def add_score_threshold(parser: argparse.ArgumentParser) -> None:
    text = 'detections below it are not drawn (default: 0.3)'
    parser.add_argument('--score-thr', type=float, default=0.3, help=text)


def add_launcher(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--launcher', choices=('none', 'pytorch', 'slurm', 'mpi'), default='none')
