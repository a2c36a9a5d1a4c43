"""Convert a checkpoint: to other names, to .pth or .safetensors, to the backbone alone, or to publish it."""

from __future__ import annotations

import argparse

from command_line import run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('source', metavar='IN', help='path, http(s):// or hf://owner/name')
    parser.add_argument('out', metavar='OUT', help='.pth or .safetensors')
    parser.add_argument(
        '--to',
        choices=('weightformer_mm', 'released'),
        default='weightformer_mm',
        help='whose names the weights get (default: weightformer_mm)',
    )
    parser.add_argument(
        '--backbone-only', action='store_true', help="keep the backbone's weights and nothing else"
    )
    parser.add_argument(
        '--publish',
        action='store_true',
        help='leave out optimizer, schedulers and logs, and put the sha256 prefix into the name',
    )
    parser.add_argument('--force', action='store_true', help='replace OUT if it exists')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from weightformer_mm.apis.convert import Conversion, convert_checkpoint
    from weightformer_mm.checkpoints.schemes import use_safe_loading

    use_safe_loading()
    conversion = Conversion(args.to, args.backbone_only, args.publish)
    print(convert_checkpoint(args.source, args.out, conversion, args.force))


if __name__ == '__main__':
    run(parse_args, main)
