"""Draw what a checkpoint sees in an image or in all images of a folder."""

from __future__ import annotations

import argparse

from command_line import add_config, add_config_options, add_score_threshold, run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_config(parser)
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='checkpoint of exactly that model')
    parser.add_argument('source', metavar='IMAGE_OR_FOLDER')
    parser.add_argument('--out', required=True, metavar='DIR', help='pictures and predictions.json')
    parser.add_argument('--device', help='such as cpu or cuda:0 (default: a GPU if there is one)')
    add_score_threshold(parser)
    add_config_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from weightformer_mm.apis import Inferencer

    inferencer = Inferencer(args.config, args.checkpoint, args.device, args.cfg_options)
    inferencer(args.source, args.out, args.score_thr)


if __name__ == '__main__':
    run(parse_args, main)
