"""Draw what a checkpoint sees in an image or in all images of a folder."""

from __future__ import annotations

import argparse
import sys


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', metavar='CONFIG', help='config file; it says which task')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='checkpoint of exactly that model')
    parser.add_argument('source', metavar='IMAGE_OR_FOLDER')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder of the pictures')
    parser.add_argument(
        '--device', help='such as cpu or cuda:0 (default: a GPU where there is one)'
    )
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        help='detections below it are not drawn (default: 0.3)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        default=[],
        metavar='KEY=VALUE',
        help='change the config',
    )
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from weightformer_mm.engine.inference import infer

    infer(
        args.config,
        args.checkpoint,
        args.source,
        args.out,
        args.device,
        args.score_thr,
        args.cfg_options,
    )


if __name__ == '__main__':
    # before the libraries are imported: --help and a wrong option answer at once
    arguments = parse_args()
    from weightformer_mm.engine import run_tool

    sys.exit(run_tool(main, arguments))
