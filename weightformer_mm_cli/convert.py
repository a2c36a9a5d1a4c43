"""Convert a checkpoint: to other names, to .pth or .safetensors, to the backbone alone, or to publish it."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('source', metavar='IN', help='path, http(s):// or hf://owner/name')
    add('out', metavar='OUT', help='.pth or .safetensors')
    text = 'whose names the weights get (default: weightformer_mm)'
    add('--to', choices=('weightformer_mm', 'released'), default='weightformer_mm', help=text)
    text = "keep the backbone's weights and nothing else"
    add('--backbone-only', action='store_true', help=text)
    text = 'leave out optimizer, schedulers and logs, and put the sha256 prefix into the name'
    add('--publish', action='store_true', help=text)
    add('--half', action='store_true', help='round the weights to float16')
    add('--force', action='store_true', help='replace OUT if it exists')


def call(source: str, out: str, force: bool, **conversion: str | bool) -> None:
    from weightformer_mm.apis.convert import Conversion, convert_checkpoint
    from weightformer_mm.checkpoints.schemes import use_safe_loading

    use_safe_loading()
    print(convert_checkpoint(source, out, Conversion(**conversion), force))
