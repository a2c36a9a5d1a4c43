"""Evaluate a checkpoint of a detector, segmentor or classifier on the test split of its config."""

from __future__ import annotations

import argparse
from typing import Any

from . import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_config(parser)
    options.add_checkpoint(parser)
    add = parser.add_argument
    text = 'folder for logs (default: work_dirs/<name of the config>)'
    add('--work-dir', metavar='DIR', help=text)
    text = 'write metrics.json and the predictions (COCO JSON, label PNGs or JSON of classes)'
    add('--out', metavar='DIR', help=text)
    add('--show-dir', metavar='DIR', help='draw ground truth | prediction for every image')
    text = 'test-time augmentation (tta_model of the config)'
    add('--tta', action='store_true', help=text)
    options.add_score_threshold(parser)
    options.add_data_root(parser)
    options.add_config_options(parser)
    options.add_launcher(parser)


def call(**arguments: Any) -> None:
    from weightformer_mm.apis.test import evaluate

    evaluate(**arguments)
