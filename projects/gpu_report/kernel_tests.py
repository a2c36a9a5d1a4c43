"""The part that runs the tests of the operations, with kernels compiled for the GPU, and counts them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import find_spec

from .findings import FAILED, MEASURED, NOT_RUN, OK
from .options import PartOptions, part_options

PROCESSES = 12
SHOWN = 12  # failures
_WORDS = 'PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS'
_SIDE_BY_SIDE = re.compile(rf'\[gw\d+\] \[ *\d+%\] ({_WORDS}) (.+)')
_ALONE = re.compile(rf'(\S+\.py::.+?) ({_WORDS})\b')
_REASON = re.compile(r'(?:FAILED|ERROR) (\S+\.py::.+?) - (.+)')


def command(rehearse: bool) -> list[str]:
    """Pytest without this repository's settings, some of which need plugins."""
    tests = ['tests/ops', '--ignore=tests/ops/test_interpreted.py']
    if rehearse:
        tests = ['tests/ops/interpreted/test_mechanism.py']
    words = ['-c', os.devnull, f'--rootdir={os.getcwd()}', '--confcutdir=tests/ops']
    words += ['--import-mode=importlib', '-p', 'no:cacheprovider', '-m', 'not slow']
    words += ['-v', '-rfE', '--tb=short', '-W', 'ignore']
    if not rehearse and find_spec('xdist') is not None:
        words += ['-n', str(min(PROCESSES, os.cpu_count() or 1))]
    if find_spec('pytest_timeout') is not None:
        words += ['--timeout=60']
    return [sys.executable, '-m', 'pytest', *tests, *words]


def outcome_of(line: str) -> tuple[str, str] | None:
    """Name of a test and how it ended, if the line says so."""
    if match := _SIDE_BY_SIDE.match(line):
        return match[2].strip(), match[1]
    if match := _ALONE.match(line):
        return match[1], match[2]
    return None


class Count:
    """What pytest has said so far.

    Attributes:
        outcomes: how each test ended.
        reasons: why tests failed, which pytest says at its end.
    """

    def __init__(self) -> None:
        self.outcomes: dict[str, str] = {}
        self.reasons: dict[str, str] = {}

    def read(self, lines: Iterable[str]) -> None:
        for line in lines:
            print(line, end='', flush=True)
            if match := _REASON.match(line):
                self.reasons[match[1]] = match[2]
            elif found := outcome_of(line):
                self.outcomes[found[0]] = found[1]

    def number(self, *kinds: str) -> int:
        return sum(outcome in kinds for outcome in self.outcomes.values())

    @property
    def failed(self) -> list[str]:
        return [name for name, outcome in self.outcomes.items() if outcome in ('FAILED', 'ERROR')]


def main() -> None:
    options = part_options('kernel_tests')
    if find_spec('pytest') is None:
        options.findings.add('tests', NOT_RUN, detail='pytest is not installed; carry its wheel')
        return
    process = subprocess.Popen(
        command(options.rehearse), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # pytest gets it, too, and then sums up
    count = Count()
    count.read(process.stdout)
    _report(options, count, process.wait())


def _report(options: PartOptions, count: Count, code: int) -> None:
    skipped = count.number('SKIPPED')
    detail = f'{len(count.failed)} failed, {skipped} skipped, exit code {code}'
    verdict = FAILED if code or not count.number('PASSED') else OK
    options.findings.add('tests that passed', verdict, count.number('PASSED'), detail=detail)
    for name in count.failed[:SHOWN]:
        options.findings.add(name, FAILED, detail=count.reasons.get(name, 'see the log'))
    if len(count.failed) > SHOWN:
        options.findings.add('further failures', MEASURED, len(count.failed) - SHOWN)


if __name__ == '__main__':
    main()
