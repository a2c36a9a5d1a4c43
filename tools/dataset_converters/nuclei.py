"""Turn the cell nuclei of BBBC038v1 (a folder per picture, a mask per nucleus) into COCO's format."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from command_line import run  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'source', metavar='FOLDER', help='has <id>/images/<id>.png and <id>/masks/*.png'
    )
    parser.add_argument(
        '--out', required=True, metavar='DIR', help="new folder: the recipes' data_root"
    )
    parser.add_argument(
        '--val-share',
        type=float,
        default=0.1,
        metavar='SHARE',
        help='share of the pictures for validation (default: 0.1)',
    )
    parser.add_argument('--seed', type=int, default=0, help='another seed gives another split')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from projects.nuclei import convert_nuclei

    done = convert_nuclei(**vars(args))
    for split, number in done.pictures.items():
        print(f'{args.out}/{split}: {number} pictures, {done.nuclei[split]} nuclei')
    if done.empty:
        print(f'{done.empty} empty masks left out')


if __name__ == '__main__':
    run(parse_args, main)
