"""The part that reads the hardware counters of four kernels with Nsight Compute, where that is permitted.

With ``--set step`` it is the program whose kernels are watched.
"""

from __future__ import annotations

import csv
import re
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from statistics import mean

from ..benchmark.contenders import parse_contenders
from ..benchmark.measure import Entrant
from ..benchmark.steps import Case
from .findings import FAILED, MEASURED, NOT_RUN, SEED
from .options import PartOptions, part_options
from .plan import OURS

NAME = 'counters.csv'
KERNELS = ('conv3x3_kernel', 'conv3x3_grad_kernel', 'linear_kernel', 'mlp_kernel')
METRICS = {
    'gpu__time_duration.sum': 'time',
    'dram__throughput.avg.pct_of_peak_sustained_elapsed': 'of memory bandwidth',
    'sm__throughput.avg.pct_of_peak_sustained_elapsed': 'of computing',
    'sm__warps_active.avg.pct_of_peak_sustained_active': 'occupancy',
    'launch__registers_per_thread': 'registers',
}
LAUNCHES = 32  # that are watched
SIZE = 1024


def main() -> None:
    options = part_options('counters')
    if options.set:
        _step(options)
    elif options.device.type != 'cuda':
        options.findings.add('ncu', NOT_RUN, detail='Nsight Compute (ncu) reads counters of a GPU')
    elif shutil.which('ncu') is None:
        options.findings.add('ncu', NOT_RUN, detail='Nsight Compute (ncu) is not installed')
    else:
        _watch(options)


def _step(options: PartOptions) -> None:
    """A training step, with every kernel of this package."""
    (contender,) = parse_contenders([OURS])
    case = Case('train', 'bfloat16', 1, SIZE, SIZE, seed=SEED)
    Entrant.build(contender, case, options.device).step.run()


def _watch(options: PartOptions) -> None:
    # others may use the GPU, so its clocks stay as they are
    command = ['ncu', '--clock-control', 'none', '--csv', '--metrics', ','.join(METRICS)]
    command += ['--kernel-name', f'regex:^({"|".join(KERNELS)})$', '--launch-count', str(LAUNCHES)]
    step = [f'--out={options.out}', f'--data={options.data}', '--set=step']
    process = subprocess.Popen(
        [*command, sys.executable, '-m', f'{__package__}.counters', *step],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ncu gets it, too
    text = process.communicate()[0]
    found = parse(text.splitlines())
    if not found:
        last = next((line for line in text.splitlines() if 'ERROR' in line), text[-300:])
        options.findings.add('ncu', FAILED, detail=last or f'exit code {process.returncode}')
        return
    (options.out / NAME).write_text(text[text.index('"ID"') :], encoding='utf-8')
    for (kernel, metric), (value, unit, launches) in found.items():
        detail = f'mean of {launches} launches'
        options.findings.add(f'{kernel}: {METRICS[metric]}', MEASURED, value, unit, detail)


def parse(lines: Iterable[str]) -> dict[tuple[str, str], tuple[float, str, int]]:
    """Mean, unit and number of launches of each kernel's metrics, from what ``ncu --csv`` prints."""
    lines = list(lines)
    start = next((index for index, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        return {}
    values, units = defaultdict(list), {}
    for row in csv.DictReader(lines[start:]):
        metric, number = row.get('Metric Name'), (row.get('Metric Value') or '').replace(',', '')
        if metric in METRICS and re.fullmatch(r'[\d.]+(e[+-]?\d+)?', number):
            key = row['Kernel Name'], metric
            values[key].append(float(number))
            units[key] = row['Metric Unit']
    return {key: (mean(numbers), units[key], len(numbers)) for key, numbers in values.items()}


if __name__ == '__main__':
    main()
