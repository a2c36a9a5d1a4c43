"""Count parameters, multiply-adds and activations of a model, or of its backbone, without any data set.

One forward pass on one image, in evaluation mode. One multiply-add counts as one. The activation size is that
of the outputs of all operations, in elements and in MiB; views and operations in place have none, and what is
freed on the way counts too, so it is not the peak. Elementwise operations, activations, norms, pooling,
resizing, reductions, sorting and moving data count as no multiply-adds; every other operation without a
formula is named. Detectors run as in mmdet's own get_flops.py: with the proposals left after NMS, but
without making results of the raw outputs.
"""

from __future__ import annotations

import argparse

from command_line import add_config, add_config_options, run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_config(parser)
    parser.add_argument(
        '--shape',
        nargs='+',
        type=int,
        action='append',
        default=[],
        metavar='PIXELS',
        help='height and width of the image, or the side of a square; for several, give more pairs or '
        'repeat the option (default: 800 1280, for mmseg 512 512, for mmpretrain 224 224)',
    )
    parser.add_argument('--backbone', action='store_true', help="count only the config's backbone")
    parser.add_argument(
        '--format', choices=('table', 'json', 'markdown'), default='table', help='default: table'
    )
    parser.add_argument('--out', metavar='FILE', help='write to this file instead of the terminal')
    parser.add_argument(
        '--depth', type=int, default=2, metavar='N', help='levels of modules to show (default: 2)'
    )
    add_config_options(parser)
    arguments = parser.parse_args()
    arguments.shapes = [pair for given in arguments.shape for pair in pairs(parser, given)]
    return arguments


def pairs(parser: argparse.ArgumentParser, sizes: list[int]) -> list[tuple[int, int]]:
    if len(sizes) == 1:
        return [(sizes[0], sizes[0])]
    if len(sizes) % 2:
        parser.error(f'--shape {" ".join(map(str, sizes))}: expected pairs of height and width')
    return list(zip(sizes[::2], sizes[1::2]))


def main(args: argparse.Namespace) -> None:
    from weightformer_mm.apis.complexity import report_complexity

    report_complexity(
        args.config,
        args.shapes,
        args.backbone,
        args.format,
        args.out,
        args.depth,
        args.cfg_options,
    )


if __name__ == '__main__':
    run(parse_args, main)
