"""Make the Shapes data set: pictures with COCO instances and ADE20K-style labels."""

from __future__ import annotations

import argparse
import sys

from weightformer_mm.datasets import ShapesConfig, ShapesError, make_shapes


def parse_args() -> argparse.Namespace:
    defaults = ShapesConfig()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('--out', default='data/shapes', metavar='DIR', help='folder of the set')
    parser.add_argument(
        '--train', type=int, default=defaults.train, metavar='N', help='number of training images'
    )
    parser.add_argument(
        '--val', type=int, default=defaults.val, metavar='N', help='number of validation images'
    )
    parser.add_argument(
        '--size', type=int, default=defaults.size, metavar='PX', help='side of the square images'
    )
    parser.add_argument(
        '--seed', type=int, default=defaults.seed, help='another seed gives another set'
    )
    parser.add_argument(
        '--force', action='store_true', help='make it anew even where this or another set is there'
    )
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    try:
        config = ShapesConfig(args.train, args.val, args.size, args.seed)
        made = make_shapes(args.out, config, force=args.force)
    except ShapesError as error:
        print(f'make_shapes: {error}', file=sys.stderr)
        return 2
    except OSError as error:
        where = error.filename or args.out
        print(f'make_shapes: cannot write {where}: {error.strerror}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('make_shapes: interrupted, nothing was written', file=sys.stderr)
        return 130
    verb = 'made' if made else 'already there'
    print(f'{args.out}: {verb}, {config.train} training and {config.val} validation images')
    return 0


if __name__ == '__main__':
    sys.exit(main())
