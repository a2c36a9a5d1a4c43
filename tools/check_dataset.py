"""Check a config's data sets: files, annotations, images, class names; exit code 1 if training would fail."""

from __future__ import annotations

import argparse

from command_line import add_config, add_config_options, add_data_root, run

SPLITS = ('train', 'val', 'test')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_config(parser)
    parser.add_argument(
        '--all', action='store_true', help='read every image (default: a sample of each data set)'
    )
    parser.add_argument(
        '--split', nargs='+', choices=SPLITS, default=SPLITS, help='default: all of them'
    )
    add_data_root(parser)
    add_config_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from weightformer_mm.apis.check_dataset import check_dataset

    check_dataset(args.config, args.split, args.all, args.cfg_options, args.data_root)


if __name__ == '__main__':
    run(parse_args, main)
