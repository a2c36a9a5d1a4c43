"""Write a checkpoint as a file for ONNX Runtime or torch that needs neither this package nor its config.

The file holds a segmentor (the class of each pixel), a classifier (probabilities), a detector (boxes,
scores, labels, masks) or a backbone (its maps). It is compared with the model at sizes and batches that were
not traced, and appears only if it gives the same.
"""

from __future__ import annotations

import argparse
from typing import Any

from .options import add_checkpoint, add_config, add_config_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_checkpoint(parser)
    add = parser.add_argument
    add('--out', required=True, metavar='FILE', help='ends in .onnx, .pt2 or .pt')
    kinds = dict(choices=('onnx', 'torch-export', 'torchscript'), default='onnx')
    add('--format', dest='kind', help='default: onnx', **kinds)
    text = 'of the images that are traced; the only size of all images if it is not dynamic'
    add('--size', type=int, nargs=2, metavar=('H', 'W'), help=text)
    text = 'what may differ from image to image (default: size batch); nothing: neither'
    choices = dict(nargs='*', choices=('size', 'batch'), default=('size', 'batch'))
    add('--dynamic', help=text, **choices)
    add('--backbone', action='store_true', help='export the maps of its backbone')
    text = "take images (B, H, W, 3) of uint8 as OpenCV reads them, and do what the model's preprocessor does"
    add('--with-preprocessing', action='store_true', help=text)
    add('--opset', type=int, metavar='N', help='of ONNX (default: 17)')
    add('--fp16', dest='half', action='store_true', help='half the size: float16 inside (ONNX)')
    add_config_options(parser)


def call(kind: str, size: Any, dynamic: Any, opset: Any, half: bool, **arguments: Any) -> None:
    from weightformer_mm.apis.export import Form, export

    form = Form(kind, size and tuple(size), tuple(dynamic), opset, half)
    export(form=form, **arguments)
