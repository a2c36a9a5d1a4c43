"""Check a config's data sets: files, annotations, images, class names; exit code 1 if training would fail."""

from __future__ import annotations

import argparse
from typing import Any

from .options import add_config, add_config_options, add_data_root

SPLITS = ('train', 'val', 'test')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    text = 'read every image (default: a sample of each data set)'
    parser.add_argument('--all', dest='everything', action='store_true', help=text)
    choice = dict(nargs='+', choices=SPLITS, default=SPLITS)
    parser.add_argument('--split', dest='splits', help='default: all of them', **choice)
    add_data_root(parser)
    add_config_options(parser)


def call(**arguments: Any) -> None:
    from weightformer_mm.apis.check_dataset import check_dataset

    check_dataset(**arguments)
