"""Runs the parts of a report before a deadline, each in a process of its own, and keeps what they say."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Lock, Thread

from .findings import FAILED, NOT_RUN, OK, Findings
from .plan import ROWS, Part, Plan, without

LOG = 'report.log'
MOST_LOG = 15 * 2**20  # bytes
GRACE = 6.0  # seconds from Ctrl-C to the end by force
LEAST = 5.0  # seconds in which a part can tell anything
# how notes of the benchmark begin: a GPU that was lost, and what was not measured because of it
LOST, BECAUSE = ('CUDA error', 'AcceleratorError'), 'not measured: an earlier failure'


class Log:
    """What all parts write, line by line, after their names."""

    def __init__(self, path: Path):
        self._file = path.open('w', encoding='utf-8')
        self._lock = Lock()

    def write(self, part: str, line: str) -> None:
        with self._lock:
            if self._file.tell() < MOST_LOG:
                self._file.write(f'[{part}] {line.rstrip()}\n')
                self._file.flush()


class Runner:
    """Runs the stages of a plan.

    Args:
        end: when everything must be over, on the monotonic clock.
    """

    def __init__(self, plan: Plan, end: float):
        self.plan, self.end = plan, end
        self.log = Log(plan.out / LOG)
        self.device = 'CPU' if plan.rehearse else gpu_name()
        self._running: set[subprocess.Popen] = set()

    def run(self, only: tuple[str, ...] = ()) -> None:
        """Run the stages; with ``only``, the parts of these names."""
        for stage in self.plan.stages():
            parts = [part for part in stage if not only or part.name in only]
            threads = [Thread(target=self._part, args=(part,)) for part in parts]
            for thread in threads:
                thread.start()
            try:
                for thread in threads:
                    thread.join()
            except BaseException:
                self.end = 0.0  # no other part begins
                for process in set(self._running):
                    _signal(process, signal.SIGKILL)
                for thread in threads:
                    thread.join()
                raise

    def _part(self, part: Part) -> None:
        findings = Findings(self.plan.out, part.name, self.device)
        left = self.end - time.monotonic() - GRACE
        if self.plan.rehearse and part.not_on_cpu:
            findings.add('part', NOT_RUN, detail=part.not_on_cpu)
        elif left < LEAST:
            findings.add('part', NOT_RUN, detail='no time is left')
        else:
            before = len(rows(self.plan.out))
            seconds, ending = self._process(part, min(part.seconds, left))
            findings.add('part', OK if ending == 'exit code 0' else FAILED, seconds, 's', ending)
            culprit = lost_by(rows(self.plan.out)[before:]) if part.contenders else None
            if culprit in part.contenders:
                self._part(without(part, culprit))

    def _process(self, part: Part, limit: float) -> tuple[float, str]:
        """Seconds that it took, and how it ended."""
        start = time.monotonic()
        environment = {**os.environ, 'PYTHONUNBUFFERED': '1', **part.environment}
        process = subprocess.Popen(
            [sys.executable, *part.arguments],
            cwd=self.plan.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
            start_new_session=True,
        )
        self._running.add(process)
        reader = Thread(target=self._read, args=(part.name, process))
        reader.start()
        try:
            code = process.wait(limit)
            ending = f'exit code {code}'
        except subprocess.TimeoutExpired:
            ending = f'interrupted after {limit:.0f} s; what it found so far counts'
            _signal(process, signal.SIGINT)
            try:
                process.wait(GRACE - 1)
            except subprocess.TimeoutExpired:
                ending = f'killed after {limit:.0f} s; what it found so far counts'
        _signal(process, signal.SIGKILL)  # also what it left running
        process.wait()
        self._running.remove(process)
        reader.join(1.0)
        return time.monotonic() - start, ending

    def _read(self, name: str, process: subprocess.Popen) -> None:
        for line in process.stdout:
            self.log.write(name, line)


def _signal(process: subprocess.Popen, number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def gpu_name() -> str:
    """Without any library; empty if the system knows no GPU."""
    if shutil.which('nvidia-smi') is None:
        return ''
    query = ['nvidia-smi', '--query-gpu=name', '--format=csv,noheader']
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return (done.stdout.strip().splitlines() or [''])[0] if done.returncode == 0 else ''


def rows(out: Path) -> list[dict[str, str]]:
    """The rows of the benchmark so far."""
    path = out / ROWS
    if not path.is_file():
        return []
    with path.open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def lost_by(new: list[dict[str, str]]) -> str | None:
    """The contender after whose failure others were not measured; None if all could be."""
    if not any(row['note'].startswith(BECAUSE) for row in new):
        return None
    failed = (row for row in new if any(word in row['note'] for word in LOST))
    return next((row['contender'] for row in failed), None)
