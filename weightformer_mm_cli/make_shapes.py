"""Make the Shapes data set: pictures with COCO instances and ADE20K-style labels."""

from __future__ import annotations

import argparse
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    add = parser.add_argument
    add('--out', default='data/shapes', metavar='DIR', help='folder for the set')
    add('--train', type=int, default=400, metavar='N', help='number of training images')
    add('--val', type=int, default=80, metavar='N', help='number of validation images')
    add('--size', type=int, default=256, metavar='PX', help='side of the square images')
    text = 'one large object per image, with lists of the classes, for classification'
    add('--single', action='store_true', help=text)
    text = 'ContextShapes: the class of an object is its shape and the colour of a distant mark'
    add('--context', action='store_true', help=text)
    text = 'with --context: a square marker of this share of the image instead of a band'
    add('--cue-area', type=float, metavar='SHARE', help=text)
    text = 'with --context: every object is farther than this from the mark'
    add('--reach', type=int, default=56, metavar='PX', help=text)
    add('--seed', type=int, default=0, help='another seed gives another set')
    text = 'make it anew even if this or another set is there'
    add('--force', action='store_true', help=text)


def call(out: str, force: bool, **settings: Any) -> None:
    from weightformer_mm.datasets import ShapesConfig, make_shapes

    config = ShapesConfig(**settings)
    verb = 'made' if make_shapes(out, config, force=force) else 'already there'
    print(f'{out}: {verb}, {config.train} training and {config.val} validation images')
