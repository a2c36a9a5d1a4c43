"""Running the command line tools as processes, several at a time, with their output in log files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..engine.errors import RunFailed

POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Job:
    """A command line tool to run: arguments for the Python interpreter, and the log it appends to."""

    arguments: Sequence[str]
    log: Path


def run_together(
    jobs: Sequence[Job], folder: Path, watch: Callable[[], None] = lambda: None
) -> None:
    """Run tools at the same time, the processor's cores shared between them.

    Two models of the demo's size train faster side by side on one core each than one after the other on
    two.

    Args:
        jobs: what to run.
        folder: the folder to run in.
        watch: called about once a second.

    Raises:
        RunFailed: as soon as one of them fails; the others are stopped.
    """
    threads = str(max(1, _cores() // len(jobs)))
    environment = {**os.environ, 'OMP_NUM_THREADS': threads, 'MKL_NUM_THREADS': threads}
    with ExitStack() as stack:
        processes = [stack.enter_context(_started(job, folder, environment)) for job in jobs]
        codes = [None] * len(jobs)
        while None in codes:
            time.sleep(POLL_SECONDS)
            watch()
            codes = [process.poll() for process in processes]
            for job, code in zip(jobs, codes):
                if code:
                    raise RunFailed(_failure(job, code))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


@contextmanager
def _started(job: Job, folder: Path, environment: dict[str, str]):
    """A process in a session of its own, so that its data loader workers end with it."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open('ab') as output:
        process = subprocess.Popen(
            [sys.executable, *job.arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _failure(job: Job, code: int) -> str:
    lines = job.log.read_text(errors='replace').strip().splitlines() or ['no output']
    return (
        f'{Path(job.arguments[0]).name} failed with code {code}: {lines[-1]} (whole log: {job.log})'
    )
