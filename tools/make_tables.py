"""Write the metafiles of the recipes, and the tables of docs/model_zoo.md from them."""

from __future__ import annotations

import argparse
from pathlib import Path

from command_line import run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--measure',
        nargs='*',
        metavar='RECIPE',
        help='count the models of these recipes again; without names, all and those of peers (10 minutes)',
    )
    parser.add_argument(
        '--check', action='store_true', help='write nothing; exit with 2 if a table is stale'
    )
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from projects.model_zoo.make_tables import make_tables

    make_tables(Path(__file__).resolve().parents[1], args.measure, args.check)


if __name__ == '__main__':
    run(parse_args, main)
