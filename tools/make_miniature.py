"""Make small generated data in the layout of COCO, ADE20K or Cityscapes, to try a recipe without the data."""

from __future__ import annotations

import argparse

from command_line import run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('layout', metavar='LAYOUT', help='coco, ade20k or cityscapes')
    parser.add_argument(
        '--out', required=True, metavar='DIR', help="folder for the set: a recipe's data_root"
    )
    parser.add_argument(
        '--train', type=int, default=16, metavar='N', help='training images (default: 16)'
    )
    parser.add_argument(
        '--val', type=int, default=8, metavar='N', help='validation images (default: 8)'
    )
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='of an image in landscape format; other images of COCO and ADE20K are upright, square or have '
        'odd sides (default: about as in the real data)',
    )
    parser.add_argument('--seed', type=int, default=0, help='another seed gives another set')
    parser.add_argument(
        '--force', action='store_true', help='make it anew even if this or another set is there'
    )
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from projects.miniatures import make_miniature

    made = make_miniature(**vars(args))
    verb = 'made' if made else 'already there'
    print(f'{args.out}: {verb}, {args.train} training and {args.val} validation images')


if __name__ == '__main__':
    run(parse_args, main)
