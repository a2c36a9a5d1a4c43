"""Draw the effective receptive field: how much each pixel counts for the central output position."""

from __future__ import annotations

import argparse

from command_line import add_config, add_config_options, run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_config(parser)
    parser.add_argument(
        'checkpoint',
        metavar='CHECKPOINT',
        nargs='?',
        help='of the trained network; {strategy} in its path stands for the name of each column',
    )
    parser.add_argument(
        '--out', required=True, metavar='PNG', help='the numbers go to a .json beside it'
    )
    parser.add_argument(
        '--before-after',
        action='store_true',
        help='two rows: the initialised and the trained network',
    )
    parser.add_argument(
        '--strategies',
        nargs='+',
        default=[],
        metavar='NAME',
        help='columns: static, linear-gap, conv-gap, published, attention, ..., gap+conv, or all',
    )
    parser.add_argument(
        '--images', default='noise', help='an image, a folder, or noise (default: noise)'
    )
    parser.add_argument(
        '--count', type=int, default=20, metavar='N', help='number of images (default: 20)'
    )
    parser.add_argument(
        '--size', type=int, nargs=2, default=(256, 256), metavar=('H', 'W'), help='in pixels'
    )
    add_config_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from weightformer_mm.apis.receptive_field import format_numbers, run_erf
    from weightformer_mm.backbones.strategies import compared_strategies

    strategies = list(compared_strategies()) if args.strategies == ['all'] else args.strategies
    numbers = run_erf(
        args.config,
        args.out,
        args.checkpoint,
        args.before_after,
        strategies,
        args.images,
        args.count,
        tuple(args.size),
        args.cfg_options,
    )
    print(format_numbers(numbers))
    print(f'picture: {args.out}')


if __name__ == '__main__':
    run(parse_args, main)
