"""Train a detector and a segmentor on generated pictures, evaluate them, and draw what they see."""

from __future__ import annotations

import argparse
from pathlib import Path

from command_line import run

REPOSITORY = Path(__file__).resolve().parent.parent


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--out',
        type=Path,
        metavar='DIR',
        help='folder for checkpoints, logs and pictures (default: work_dirs/demo, or demo_full)',
    )
    parser.add_argument('--full', action='store_true', help="train by the recipes' own schedules")
    parser.add_argument('--force', action='store_true', help='start over instead of continuing')
    text = 'as --full, then put the weights, as float16, beside their recipes'
    parser.add_argument('--ship', action='store_true', help=text)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from projects.demo import run_demo, ship

    full = args.full or args.ship
    out = args.out or REPOSITORY / 'work_dirs' / ('demo_full' if full else 'demo')
    print(run_demo(REPOSITORY, out.resolve(), args.force, full))
    if args.ship:
        for path in ship(REPOSITORY, out.resolve()):
            print(path)


if __name__ == '__main__':
    run(parse_args, main)
