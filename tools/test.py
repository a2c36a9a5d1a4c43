"""Evaluate a checkpoint on the test split of a config, for detection and segmentation alike."""

from __future__ import annotations

import argparse
import sys


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', metavar='CONFIG', help='config file; it says which task')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='checkpoint of exactly that model')
    parser.add_argument(
        '--work-dir', metavar='DIR', help='logs (default: work_dirs/<name of the config>)'
    )
    parser.add_argument(
        '--out',
        metavar='DIR',
        help='write metrics.json and the predictions (COCO JSON or label PNGs)',
    )
    parser.add_argument(
        '--show-dir', metavar='DIR', help='draw ground truth | prediction of every image'
    )
    parser.add_argument(
        '--tta', action='store_true', help='test-time augmentation (tta_model of the config)'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        default=[],
        metavar='KEY=VALUE',
        help='change the config',
    )
    parser.add_argument('--launcher', choices=('none', 'pytorch', 'slurm', 'mpi'), default='none')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from weightformer_mm.engine.testing import evaluate

    evaluate(
        args.config,
        args.checkpoint,
        args.work_dir,
        args.out,
        args.show_dir,
        args.tta,
        args.cfg_options,
        args.launcher,
    )


if __name__ == '__main__':
    # before the libraries are imported: --help and a wrong option answer at once
    arguments = parse_args()
    from weightformer_mm.engine import run_tool

    sys.exit(run_tool(main, arguments))
