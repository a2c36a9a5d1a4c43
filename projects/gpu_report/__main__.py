"""The command: run the parts of a report, or prepare the pictures that travel with it."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from .findings import NAME as FINDINGS
from .findings import start_file
from .plan import ROWS, Plan
from .runner import Runner
from .table import summary

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / 'data' / 'gpu_report'


def parse_args(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='gpu_report.sh', description='What a GPU can tell about this project, in one call.'
    )
    add = parser.add_argument
    text = 'folder of the report (default: OUT of the environment, else work_dirs/gpu_report)'
    add('--out', type=Path, metavar='DIR', help=text)
    text = 'everything is over so many seconds after the start (default: 520)'
    add('--deadline', type=float, default=520.0, metavar='S', help=text)
    # seconds before this program, and where paths begin: for the script that starts it
    add('--spent', type=float, default=0.0, help=argparse.SUPPRESS)
    add('--from', type=Path, default=Path(), dest='start', help=argparse.SUPPRESS)
    text = 'run every part at tiny sizes on the CPU, which takes about a minute'
    add('--rehearse', action='store_true', help=text)
    names = [part.name for part in Plan(ROOT, ROOT, DATA, False).parts()]
    text = f'only these: {", ".join(names)}'
    add('--only', nargs='+', choices=names, default=(), metavar='PART', help=text)
    text = 'folder with the pictures that --prepare wrote (default: data/gpu_report)'
    add('--data', type=Path, default=DATA, metavar='DIR', help=text)
    text = "instead, write CamVid's and the nuclei's pictures to DIR as JPEG, at most 25 MB in all"
    add('--prepare', type=Path, metavar='DIR', help=text)
    for name in ('camvid', 'nuclei'):
        text = f'where --prepare finds these pictures (default: data/{name})'
        add(f'--{name}', type=Path, default=ROOT / 'data' / name, metavar='DIR', help=text)
    given = parser.parse_args(words)
    if given.deadline <= given.spent:
        parser.error(f'--deadline {given.deadline:g}: expected more than {given.spent:g} seconds')
    given.out = given.out or Path(os.environ.get('OUT') or ROOT / 'work_dirs' / 'gpu_report')
    for name in ('out', 'data', 'prepare', 'camvid', 'nuclei'):
        path = getattr(given, name)
        if path is not None:
            setattr(given, name, Path(os.path.abspath(given.start / path.expanduser())))
    return given


def main() -> None:
    given = parse_args()
    if given.prepare is not None:
        from weightformer_mm_cli.running import run_tool

        from .data import prepare

        sys.argv[0] = 'gpu_report.sh'
        sys.exit(run_tool(prepare, given.prepare, given.camvid, given.nuclei))
    report(given)


def report(given: argparse.Namespace) -> None:
    """Run the parts, then print the table."""
    end = time.monotonic() + given.deadline - given.spent
    plan = Plan(ROOT, given.out.resolve(), given.data.resolve(), given.rehearse)
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
        for name in (FINDINGS, ROWS):
            (plan.out / name).unlink(missing_ok=True)
        start_file(plan.out)
        runner = Runner(plan, end)
    except OSError as error:
        print(f'gpu_report.sh: error: --out {plan.out}: {error.strerror}', file=sys.stderr)
        sys.exit(2)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        runner.run(tuple(given.only))
    except KeyboardInterrupt:
        print('gpu_report.sh: interrupted; what it found so far counts', file=sys.stderr)
        code = 130
    else:
        code = 0
    print(f'\n{summary(plan.out)}\n\n{plan.out}')
    sys.exit(code)


if __name__ == '__main__':
    main()
