"""Running the command line tools as processes, several at a time, with their output in log files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from weightformer_mm.errors import RunFailed

POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Job:
    """A command line tool to run: arguments for the Python interpreter, and the log it appends to."""

    arguments: Sequence[str]
    log: Path


@dataclass(frozen=True)
class Usage:
    """What a job took: seconds on the clock, and seconds of the processor with those of its children."""

    seconds: float
    cpu_seconds: float


def run_together(
    jobs: Sequence[Job],
    folder: Path,
    watch: Callable[[], None] = lambda: None,
    at_once: int | None = None,
    threads: int | None = None,
    finished: Callable[[Job, Usage], None] = lambda job, usage: None,
    keep_going: bool = False,
) -> None:
    """Run tools at the same time, the processor's cores shared between them.

    Two models of the demo's size train faster side by side on one core each than one after the other on
    two.

    Args:
        jobs: what to run.
        folder: the folder to run in.
        watch: called about once a second.
        at_once: so many run at a time, the others wait; default all.
        threads: of each; default its share of the cores.
        finished: called for each that succeeded.
        keep_going: where one fails, let the others run before that is said.

    Raises:
        RunFailed: as soon as one of them fails, the others are stopped; with ``keep_going`` at the end.
    """
    at_once = at_once or len(jobs)
    threads = threads or max(1, _cores() // at_once)
    environment = {**os.environ, 'OMP_NUM_THREADS': str(threads), 'MKL_NUM_THREADS': str(threads)}
    waiting, running, failures = deque(jobs), [], []
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                running.append(_Running(waiting.popleft(), folder, environment))
            time.sleep(POLL_SECONDS)
            watch()
            for process in [process for process in running if process.has_ended()]:
                running.remove(process)
                if process.code == 0:
                    finished(process.job, process.usage)
                    continue
                failures.append(_failure(process.job, process.code))
                if not keep_going:
                    raise RunFailed(failures[0])
    finally:
        for process in running:
            process.stop()
    if failures:
        raise RunFailed('; '.join(failures))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


@dataclass
class _Running:
    """A process in a session of its own, so that its data loader workers end with it."""

    job: Job
    folder: Path
    environment: dict[str, str]
    code: int | None = None
    usage: Usage | None = None
    start: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.job.log.parent.mkdir(parents=True, exist_ok=True)
        with self.job.log.open('ab') as output:
            self._process = subprocess.Popen(
                [sys.executable, *self.job.arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
            )

    def has_ended(self) -> bool:
        # not Popen.poll, which does not tell what the process used
        pid, status, used = os.wait4(self._process.pid, os.WNOHANG)
        if pid == 0:
            return False
        self.code = self._process.returncode = os.waitstatus_to_exitcode(status)
        self.usage = Usage(time.monotonic() - self.start, used.ru_utime + used.ru_stime)
        return True

    def stop(self) -> None:
        if self.code is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait()


def _failure(job: Job, code: int) -> str:
    lines = job.log.read_text(errors='replace').strip().splitlines() or ['no output']
    return (
        f'{Path(job.arguments[0]).name} failed with code {code}: {lines[-1]} (whole log: {job.log})'
    )
