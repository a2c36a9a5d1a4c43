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
        default=REPOSITORY / 'work_dirs' / 'demo',
        metavar='DIR',
        help='folder for checkpoints, logs and pictures (default: work_dirs/demo)',
    )
    parser.add_argument('--force', action='store_true', help='start over instead of continuing')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from projects.demo import run_demo

    print(run_demo(REPOSITORY, args.out.resolve(), args.force))


if __name__ == '__main__':
    run(parse_args, main)
