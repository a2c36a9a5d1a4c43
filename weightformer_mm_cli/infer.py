"""Draw what a checkpoint sees in an image or in all images of a folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import add_checkpoint, add_config, add_config_options, add_score_threshold


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_checkpoint(parser)
    add = parser.add_argument
    add('source', metavar='IMAGE_OR_FOLDER')
    add('--out', required=True, metavar='DIR', help='folder of what is saved')
    text = 'picture, label (PNGs of classes, of segmentors), json (default: picture json)'
    kinds = ('picture', 'label', 'json')
    add('--save', nargs='+', action='extend', choices=kinds, metavar='KIND', help=text)
    text = 'images that are loaded together; those of one size run together (default: 1)'
    add('--batch-size', type=int, default=1, metavar='N', help=text)
    text = 'half precision: float16 on a GPU, bfloat16 on a CPU'
    add('--half', action='store_true', help=text)
    text = 'bands that pictures show as red, green and blue, as the pipeline loads them, from 0'
    add('--bands', type=int, nargs=3, metavar=('R', 'G', 'B'), help=text)
    add('--device', help='such as cpu or cuda:0 (default: a GPU if there is one)')
    add('--strips', action='store_true', help='label a huge image in bounded memory (segmentors)')
    add_score_threshold(parser)
    add_config_options(parser)


def call(
    config: str,
    checkpoint: str,
    source: str,
    device: Any,
    strips: bool,
    half: bool,
    options: Any,
    save: Any,
    **arguments: Any,
) -> None:
    from weightformer_mm.apis.inferencer import Inferencer, find_images

    find_images(Path(source).expanduser())  # what is missing shows before the weights are read
    if save:
        arguments['save'] = save
    Inferencer(config, checkpoint, device, options, strips, half)(source, **arguments)
