"""Train the detector or segmentor that a config describes."""

from __future__ import annotations

import argparse
import sys


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', metavar='CONFIG', help='config file; it says which task')
    parser.add_argument(
        '--work-dir',
        metavar='DIR',
        help='checkpoints and logs (default: work_dirs/<name of the config>)',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='last',
        metavar='CKPT',
        help='continue from this checkpoint; without a path from the last one in the work folder',
    )
    parser.add_argument(
        '--amp', action='store_true', help='mixed precision: float16 on a GPU, bfloat16 on the CPU'
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
    from weightformer_mm.engine.training import train

    train(args.config, args.work_dir, args.resume, args.amp, args.cfg_options, args.launcher)


if __name__ == '__main__':
    # before the libraries are imported: --help and a wrong option answer at once
    arguments = parse_args()
    from weightformer_mm.engine import run_tool

    sys.exit(run_tool(main, arguments))
