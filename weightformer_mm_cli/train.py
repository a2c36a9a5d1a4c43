"""Train the detector, segmentor or classifier that a config describes."""

from __future__ import annotations

import argparse
from typing import Any

from .options import add_config, add_config_options, add_data_root, add_launcher


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add = parser.add_argument
    text = 'folder for checkpoints and logs (default: work_dirs/<name of the config>)'
    add('--work-dir', metavar='DIR', help=text)
    text = 'continue from this checkpoint; without a path, from the last one in the work folder'
    add('--resume', nargs='?', const='last', metavar='CKPT', help=text)
    text = 'mixed precision: float16 on a GPU, bfloat16 on the CPU'
    add('--amp', action='store_true', help=text)
    add_data_root(parser)
    text = "scale the learning rate by the batch over the config's auto_scale_lr.base_batch_size"
    add('--auto-scale-lr', action='store_true', help=text)
    add_config_options(parser)
    add_launcher(parser)


def call(**arguments: Any) -> None:
    from weightformer_mm.apis.training import train

    train(**arguments)
