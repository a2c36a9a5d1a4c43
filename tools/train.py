"""Train the detector, segmentor or classifier that a config describes."""

from __future__ import annotations

import argparse

from command_line import add_config, add_config_options, add_data_root, add_launcher, run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_config(parser)
    parser.add_argument(
        '--work-dir',
        metavar='DIR',
        help='folder for checkpoints and logs (default: work_dirs/<name of the config>)',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='last',
        metavar='CKPT',
        help='continue from this checkpoint; without a path, from the last one in the work folder',
    )
    parser.add_argument(
        '--amp', action='store_true', help='mixed precision: float16 on a GPU, bfloat16 on the CPU'
    )
    add_data_root(parser)
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate by the batch over the config's auto_scale_lr.base_batch_size",
    )
    add_config_options(parser)
    add_launcher(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from weightformer_mm.apis.training import train

    train(
        args.config,
        args.work_dir,
        args.resume,
        args.amp,
        args.cfg_options,
        args.launcher,
        args.data_root,
        args.auto_scale_lr,
    )


if __name__ == '__main__':
    run(parse_args, main)
