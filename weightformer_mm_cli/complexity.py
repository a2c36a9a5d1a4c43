"""Count parameters, multiply-adds and activations of a model, or of its backbone, without any data set.

One forward pass on one image, in evaluation mode. One multiply-add counts as one. The activation size is that
of the outputs of all operations, in elements and in MiB; views and operations in place have none, and what is
freed on the way counts too, so it is not the peak. Elementwise operations, activations, norms, pooling,
resizing, reductions, sorting and moving data count as no multiply-adds; every other operation without a
formula is named. Detectors run as in mmdet's own get_flops.py: with the proposals left after NMS, but
without making results of the raw outputs.
"""

from __future__ import annotations

import argparse
from typing import Any

from .options import add_config, add_config_options


class _Pairs(argparse.Action):
    """Adds heights and widths; a single number is the side of a square."""

    def __call__(self, parser, namespace, values, option_string=None):
        sizes = values * 2 if len(values) == 1 else values
        if len(sizes) % 2:
            raise argparse.ArgumentError(self, f'{values}: expected pairs of height and width')
        namespace.shapes = [*namespace.shapes, *zip(sizes[::2], sizes[1::2])]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add = parser.add_argument
    text = (
        'height and width of the image, or the side of a square; for several, give more pairs or '
        'repeat the option (default: 800 1280, for mmseg 512 512, for mmpretrain 224 224)'
    )
    sizes = dict(nargs='+', type=int, default=[], metavar='PIXELS')
    add('--shape', dest='shapes', action=_Pairs, help=text, **sizes)
    add('--backbone', action='store_true', help="count only the config's backbone")
    styles = dict(choices=('table', 'json', 'markdown'), default='table')
    add('--format', dest='style', help='default: table', **styles)
    add('--out', metavar='FILE', help='write to this file instead of the terminal')
    text = 'levels of modules to show (default: 2)'
    add('--depth', type=int, default=2, metavar='N', help=text)
    add_config_options(parser)


def call(**arguments: Any) -> None:
    from weightformer_mm.apis.complexity import report_complexity

    report_complexity(**arguments)
