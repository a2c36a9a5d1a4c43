"""Draw what a config feeds its model: augmented images and their annotations on a contact sheet."""

from __future__ import annotations

import argparse

from command_line import add_config, add_config_options, add_data_root, run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_config(parser)
    parser.add_argument('--out', required=True, metavar='PNG', help='the sheet, a PNG or JPEG')
    parser.add_argument('--split', choices=('train', 'val', 'test'), default='train')
    parser.add_argument(
        '--num', type=int, default=12, metavar='N', help='number of images (default: 12)'
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of sampling and augmentation')
    add_data_root(parser)
    add_config_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from weightformer_mm.apis.browse import browse

    browse(args.config, args.out, args.split, args.num, args.seed, args.cfg_options, args.data_root)


if __name__ == '__main__':
    run(parse_args, main)
