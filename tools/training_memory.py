"""Calculate the peak memory of a training step of a segmentor at full size, without a GPU.

Nothing is computed: the step runs on tensors without values, in float32, as a GPU runs it without Triton. The
tool does not count workspaces of the GPU's libraries, fragmentation and the CUDA context.
"""

from __future__ import annotations

import argparse

from command_line import add_config, add_config_options, run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_config(parser)
    parser.add_argument(
        '--batch', type=int, default=1, metavar='N', help='images per step (default: 1)'
    )
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar='PIXELS',
        help="height and width (default: the config's data_preprocessor.size)",
    )
    add_config_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from projects.benchmark.training_memory import training_memory

    parts = training_memory(args.config, args.batch, args.shape, args.options)
    for name, mebibytes in parts.items():
        print(f'{name:<12} {mebibytes:>9.0f} MiB')


if __name__ == '__main__':
    run(parse_args, main)
