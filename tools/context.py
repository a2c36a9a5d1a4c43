"""Train one network with every prediction strategy on ContextShapes, and report how each uses context."""

from __future__ import annotations

import argparse
from pathlib import Path

from command_line import run

REPOSITORY = Path(__file__).resolve().parent.parent


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--seeds', type=int, nargs='+', default=[0, 1, 2], metavar='N', help='(default: 0 1 2)'
    )
    parser.add_argument(
        '--variants', nargs='+', metavar='NAME', help='(default: all; with --hard, three of them)'
    )
    parser.add_argument(
        '--hard', action='store_true', help='a marker of 0.3 %% of the image instead of a band'
    )
    parser.add_argument(
        '--out',
        type=Path,
        metavar='DIR',
        help='folder for all results (default: work_dirs/context, with endings for --hard and --epochs)',
    )
    parser.add_argument(
        '--epochs',
        type=int,
        metavar='N',
        help='length of each training (default: as in the config)',
    )
    parser.add_argument(
        '--at-once', type=int, default=2, metavar='N', help='trainings at a time (default: 2)'
    )
    parser.add_argument(
        '--force', action='store_true', help='train again even what is already trained'
    )
    parser.add_argument(
        '--docs',
        type=Path,
        metavar='DIR',
        help='also copy table and plot there, as the docs show them',
    )
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from projects.context.experiment import run_context

    name = 'context_hard' if args.hard else 'context'
    name += f'_{args.epochs}epochs' if args.epochs is not None else ''
    out = args.out or REPOSITORY / 'work_dirs' / name
    table = run_context(
        REPOSITORY,
        out.resolve(),
        args.seeds,
        args.variants,
        args.hard,
        args.force,
        args.at_once,
        args.docs,
        args.epochs,
    )
    print(f'\n{table}\n\neverything is in {out}')


if __name__ == '__main__':
    run(parse_args, main)
