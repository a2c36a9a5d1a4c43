"""Measure time and memory of backbones, of single operations and of whole detectors; plot the results.

All contenders at one size and mode take turns, round after round, so that the machine's noise affects all
alike; the speed ratio to the first contender is taken round by round. Every row of the CSV file says what it
was measured on. docs/benchmarks/README.md explains the method and the columns.
"""

from __future__ import annotations

import argparse
import re

from command_line import add_config_options, run

CONTENDERS = """contenders:
  weightformer-{tiny,small,base}        the published isotropic network, as this package computes it
  pyramid-{micro,nano,tiny,small,base}  the pyramid
  published-{tiny,small}                the isotropic network in its published form; square images only
  plain-pyramid-{micro,tiny,small}      the pyramid in plain eager PyTorch, from published blocks
  swin-tiny                             Swin-T of mmdet
  swin_tiny_patch4_window7_224          Swin-T of timm
  convnext_tiny, pvt_v2_b2, pvt_v2_b2_li, deit_small_patch16_224   from timm
variants, any number of them, as in pyramid-tiny+memory+compile:
  +memory     memory_efficient=True
  +cp         with_cp=True
  +attention  token_mixer='attention', the quadratic baseline
  +torch, +triton   that backend
and for every contender:
  +compile, +compile_static   torch.compile, with dynamic=True or False
  +graph      a CUDA graph, recorded once
  +pure       weights and images in bfloat16 or float16 themselves, without autocast
"""
DTYPES = ('float32', 'bfloat16', 'float16')
MODES = ('inference', 'train')


def size(text: str) -> tuple[int, int]:
    if not re.fullmatch(r'\d+(x\d+)?', text):
        raise argparse.ArgumentTypeError(f'expected a side or HEIGHTxWIDTH in pixels, got {text!r}')
    sides = [int(side) for side in text.split('x')]
    return sides[0], sides[-1]


def batch(text: str) -> int | str:
    if text != 'fill' and not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a number or 'fill', got {text!r}")
    return text if text == 'fill' else int(text)


def add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--sizes',
        nargs='+',
        type=size,
        default=[(1024, 1024)],
        metavar='SIZE',
        help='image sizes in pixels, such as 1024 or 800x1280, height x width (default: 1024)',
    )
    parser.add_argument(
        '--dtype',
        choices=DTYPES,
        default='float32',
        help='networks run half precision under autocast (default: float32)',
    )
    parser.add_argument(
        '--device', default='auto', help='auto, cpu, cuda or cuda:N (default: auto)'
    )
    parser.add_argument(
        '--rounds',
        type=int,
        default=10,
        metavar='N',
        help='timed turns per contender (default: 10)',
    )
    parser.add_argument(
        '--warmup', type=int, default=2, metavar='N', help='untimed steps before them (default: 2)'
    )
    parser.add_argument(
        '--min-seconds',
        type=float,
        default=0.0,
        metavar='S',
        help='a turn lasts at least this long; the median of its steps counts (default: 0, one step)',
    )
    parser.add_argument(
        '--threads', type=int, metavar='N', help='threads on the CPU (default: as PyTorch chooses)'
    )
    parser.add_argument(
        '--out', metavar='CSV', help='append to this file, which is saved after every measurement'
    )
    parser.add_argument('--seed', type=int, default=0, metavar='N', help='(default: 0)')


def add_networks(parser: argparse.ArgumentParser) -> None:
    add_common(parser)
    parser.add_argument(
        '--modes', nargs='+', choices=MODES, default=list(MODES), help='(default: both)'
    )
    parser.add_argument(
        '--batch',
        type=batch,
        default=1,
        metavar='N|fill',
        help='images per step; fill: as many as fit on the GPU, 1 on a CPU (default: 1)',
    )
    parser.add_argument(
        '--no-memory',
        action='store_true',
        help='do not measure peak memory; then nothing keeps a CPU from running out of it',
    )
    parser.add_argument(
        '--no-ceilings', action='store_true', help='do not measure what the device can do at most'
    )
    parser.add_argument(
        '--resume',
        action='store_true',
        help='skip sizes and modes for which --out has all rows from this commit and machine',
    )


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')

    backbone = commands.add_parser(
        'backbone',
        help='time and memory of backbones',
        description='Time and memory of backbones, inference and training step.',
        epilog=CONTENDERS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    backbone.add_argument(
        '--contenders',
        nargs='+',
        default=['pyramid-tiny'],
        metavar='NAME',
        help='see below; ratios are to the first one (default: pyramid-tiny)',
    )
    backbone.add_argument(
        '--profile',
        metavar='MARKDOWN',
        help='instead, write to this file where the time of a training step goes, by kind of operation',
    )
    add_networks(backbone)

    detector = commands.add_parser(
        'detector',
        help='time and memory of whole models from config files',
        description='Time and memory of whole detectors (mmdet) and segmentors (mmseg) from their configs, '
        'on made-up images and labels; pretrained weights are not loaded.',
    )
    detector.add_argument('configs', nargs='+', metavar='CONFIG', help='config files')
    add_networks(detector)
    add_config_options(detector)

    ops = commands.add_parser(
        'ops',
        help='time of single operations against the ceilings',
        description='Time of single operations, forward and backward, at the shapes of each stage.',
    )
    ops.add_argument(
        '--arch',
        default='pyramid-tiny',
        metavar='NAME',
        help='pyramid-* or weightformer-* (default: pyramid-tiny)',
    )
    ops.add_argument(
        '--ops',
        nargs='+',
        default=[],
        metavar='NAME',
        help='operations (default: all; a wrong name lists them)',
    )
    ops.add_argument(
        '--backends',
        nargs='+',
        default=['auto'],
        metavar='NAME',
        help='auto, torch, triton; ratios are to the first one (default: auto)',
    )
    ops.add_argument('--batch', type=batch, default=1, metavar='N', help='images (default: 1)')
    add_common(ops)

    trace = commands.add_parser(
        'trace',
        help='count launches, bytes and least times of a GPU, without one',
        description='Count kernels, bytes and multiply-adds of a step on a GPU, on a machine without one, '
        'and the least time that they take. The variant +triton counts the Triton kernels.',
        epilog=CONTENDERS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    trace.add_argument('networks', nargs='+', metavar='NETWORK', help='see below')
    trace.add_argument(
        '--shape',
        nargs=2,
        type=int,
        action='append',
        metavar=('H', 'W'),
        help='of the images; may be repeated (default: 1024 1024)',
    )
    trace.add_argument('--batch', type=int, default=1, metavar='N', help='images (default: 1)')
    trace.add_argument('--train', action='store_true', help='a training step, too')
    trace.add_argument('--dtype', choices=DTYPES, default='bfloat16', help='(default: bfloat16)')
    trace.add_argument(
        '--copy-tbs', type=float, default=4.3, metavar='X', help='TB/s of a copy (default: 4.3)'
    )
    trace.add_argument(
        '--matmul-tflops', type=float, default=790, metavar='X', help='(default: 790)'
    )
    trace.add_argument(
        '--launch-us', type=float, default=2, metavar='X', help='of each kernel (default: 2)'
    )
    trace.add_argument('--out', metavar='PATH', help='write PATH.csv and PATH.md')

    deployed = commands.add_parser(
        'deployed',
        help='size, metrics and time of exported files and of compiled models',
        description='Size, metrics and time of ONNX files in float32, float16 and int8, beside the model '
        'that they are made of, alone and under torch.compile.',
    )
    deployed.add_argument(
        'recipes', nargs='+', metavar='RECIPE', help='names of recipes with weights'
    )
    deployed.add_argument(
        '--rounds', type=int, default=5, metavar='N', help='timed turns of each form (default: 5)'
    )
    deployed.add_argument(
        '--split',
        choices=('test', 'val'),
        default='test',
        help='part of the data set that is measured (default: test)',
    )
    deployed.add_argument('--data-root', metavar='DIR', help='folder with the data set')
    deployed.add_argument('--out', required=True, metavar='MARKDOWN')

    plot = commands.add_parser(
        'plot',
        help='draw time and memory against pixels',
        description='Draw time and peak memory per image against pixels, log-log, from CSV files.',
    )
    plot.add_argument('files', nargs='+', metavar='CSV')
    plot.add_argument('--out', required=True, metavar='PNG')
    plot.add_argument(
        '--fit-from',
        type=int,
        default=512 * 512,
        metavar='PIXELS',
        help='fit slopes to points from this many pixels on (default: 262144)',
    )
    plot.add_argument(
        '--where',
        nargs='+',
        action='extend',
        default=[],
        metavar='COLUMN=VALUE',
        help='use only rows with this value, such as dtype=bfloat16',
    )
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    if args.command == 'plot':
        from projects.benchmark.plot import plot_results

        plot_results(args.files, args.out, args.fit_from, args.where)
        print(args.out)
        return
    if args.command == 'deployed':
        from projects.benchmark.deployed import Method, run_deployed

        method = Method(rounds=args.rounds, data_root=args.data_root, split=args.split)
        run_deployed(args.recipes, method, args.out)
        return
    if args.command == 'trace':
        from projects.benchmark.steps import Case
        from projects.benchmark.trace_table import Limits, run_trace

        shapes = args.shape or [(1024, 1024)]
        modes = MODES if args.train else MODES[:1]
        cases = [Case(mode, args.dtype, args.batch, *s) for s in shapes for mode in modes]
        limits = Limits(args.copy_tbs, args.matmul_tflops, args.launch_us)
        run_trace(args.networks, cases, limits, args.out)
        return
    from projects.benchmark import command

    settings = command.Settings(
        args.sizes,
        args.batch,
        args.dtype,
        args.device,
        args.rounds,
        args.warmup,
        args.min_seconds,
        args.threads,
        args.out,
        args.seed,
    )
    if args.command == 'ops':
        command.run_operations(settings, args.arch, args.ops, args.backends)
        return
    choices = (args.modes, not args.no_memory, not args.no_ceilings, args.resume)
    if args.command == 'detector':
        command.run_detectors(settings, args.configs, *choices, options=args.options)
    elif args.profile is not None:
        command.run_profile(settings, args.contenders, args.profile)
    else:
        command.run_backbones(settings, args.contenders, *choices)


if __name__ == '__main__':
    run(parse_args, main)
