"""Draw what a config feeds its model: augmented images and their annotations on a contact sheet."""

from __future__ import annotations

import argparse
from typing import Any

from .check_dataset import SPLITS
from .options import add_config, add_config_options, add_data_root


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add = parser.add_argument
    add('--out', required=True, metavar='PNG', help='the sheet, a PNG or JPEG')
    add('--split', choices=SPLITS, default='train')
    text = 'number of images (default: 12)'
    add('--num', dest='number', type=int, default=12, metavar='N', help=text)
    add('--seed', type=int, default=0, help='seed of sampling and augmentation')
    add_data_root(parser)
    add_config_options(parser)


def call(**arguments: Any) -> None:
    from weightformer_mm.apis.browse import browse

    browse(**arguments)
