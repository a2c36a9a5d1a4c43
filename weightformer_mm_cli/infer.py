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
    add('--out', required=True, metavar='DIR', help='pictures and predictions.json')
    add('--device', help='such as cpu or cuda:0 (default: a GPU if there is one)')
    add('--strips', action='store_true', help='label a huge image in bounded memory (segmentors)')
    add_score_threshold(parser)
    add_config_options(parser)


def call(
    config: str,
    checkpoint: str,
    source: str,
    out: str,
    device: Any,
    strips: bool,
    score_thr: float,
    options: Any,
) -> None:
    from weightformer_mm.apis.inferencer import Inferencer, find_images

    find_images(Path(source).expanduser())  # what is missing shows before the weights are read
    Inferencer(config, checkpoint, device, options, strips)(source, out, score_thr)
