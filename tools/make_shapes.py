"""Make the Shapes data set: pictures with COCO instances and ADE20K-style labels."""

from __future__ import annotations

import argparse
from dataclasses import fields

from command_line import run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('--out', default='data/shapes', metavar='DIR', help='folder for the set')
    parser.add_argument(
        '--train', type=int, default=400, metavar='N', help='number of training images'
    )
    parser.add_argument(
        '--val', type=int, default=80, metavar='N', help='number of validation images'
    )
    parser.add_argument(
        '--size', type=int, default=256, metavar='PX', help='side of the square images'
    )
    parser.add_argument(
        '--single',
        action='store_true',
        help='one large object per image, with lists of the classes, for classification',
    )
    parser.add_argument(
        '--context',
        action='store_true',
        help='ContextShapes: the class of an object is its shape and the colour of a distant mark',
    )
    parser.add_argument(
        '--cue-area',
        type=float,
        metavar='SHARE',
        help='with --context: a square marker of this share of the image instead of a band',
    )
    parser.add_argument(
        '--reach',
        type=int,
        default=56,
        metavar='PX',
        help='with --context: every object is farther than this from the mark',
    )
    parser.add_argument('--seed', type=int, default=0, help='another seed gives another set')
    parser.add_argument(
        '--force', action='store_true', help='make it anew even if this or another set is there'
    )
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from weightformer_mm.datasets import ShapesConfig, make_shapes

    names = (field.name for field in fields(ShapesConfig))
    config = ShapesConfig(**{name: getattr(args, name) for name in names})
    made = make_shapes(args.out, config, force=args.force)
    verb = 'made' if made else 'already there'
    print(f'{args.out}: {verb}, {config.train} training and {config.val} validation images')


if __name__ == '__main__':
    run(parse_args, main)
