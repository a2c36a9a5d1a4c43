"""Draw the effective receptive field: how much each pixel counts for the central output position."""

from __future__ import annotations

import argparse
from typing import Any

from .options import add_config, add_config_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add = parser.add_argument
    text = 'of the trained network; {strategy} in its path stands for the name of each column'
    add('checkpoint', metavar='CHECKPOINT', nargs='?', help=text)
    add('--out', required=True, metavar='PNG', help='the numbers go to a .json beside it')
    text = 'two rows: the initialised and the trained network'
    add('--before-after', action='store_true', help=text)
    text = 'columns: static, linear-gap, conv-gap, published, attention, ..., gap+conv, or all'
    add('--strategies', nargs='+', default=[], metavar='NAME', help=text)
    add('--images', default='noise', help='an image, a folder, or noise (default: noise)')
    text = 'number of images (default: 20)'
    add('--count', type=int, default=20, metavar='N', help=text)
    size = dict(type=int, nargs=2, default=(256, 256), metavar=('H', 'W'))
    add('--size', help='in pixels', **size)
    add_config_options(parser)


def call(**arguments: Any) -> None:
    from weightformer_mm.apis.receptive_field import format_numbers, run_erf
    from weightformer_mm.backbones.strategies import compared_strategies

    if arguments['strategies'] == ['all']:
        arguments['strategies'] = list(compared_strategies())
    arguments['size'] = tuple(arguments['size'])
    print(format_numbers(run_erf(**arguments)))
    print(f'picture: {arguments["out"]}')
