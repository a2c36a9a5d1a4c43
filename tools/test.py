"""Evaluate a checkpoint of a detector, segmentor or classifier on the test split of its config."""

from __future__ import annotations

import argparse

from command_line import (
    add_config,
    add_config_options,
    add_data_root,
    add_launcher,
    add_score_threshold,
    run,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_config(parser)
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='checkpoint of exactly that model')
    parser.add_argument(
        '--work-dir',
        metavar='DIR',
        help='folder for logs (default: work_dirs/<name of the config>)',
    )
    parser.add_argument(
        '--out',
        metavar='DIR',
        help='write metrics.json and the predictions (COCO JSON, label PNGs or JSON of classes)',
    )
    parser.add_argument(
        '--show-dir', metavar='DIR', help='draw ground truth | prediction for every image'
    )
    parser.add_argument(
        '--tta', action='store_true', help='test-time augmentation (tta_model of the config)'
    )
    add_score_threshold(parser)
    add_data_root(parser)
    add_config_options(parser)
    add_launcher(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from weightformer_mm.apis.test import evaluate

    evaluate(
        args.config,
        args.checkpoint,
        args.work_dir,
        args.out,
        args.show_dir,
        args.tta,
        args.cfg_options,
        args.launcher,
        args.score_thr,
        args.data_root,
    )


if __name__ == '__main__':
    run(parse_args, main)
