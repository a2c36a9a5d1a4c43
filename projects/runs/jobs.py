"""Running the command line tools as processes, several at a time, with their output in log files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from weightformer_mm.errors import RunFailed

POLL_SECONDS = 0.2
WATCH_SECONDS = 1.0


@dataclass(frozen=True)
class Job:
    """A command line tool to run: arguments for the Python interpreter, and the log it appends to."""

    arguments: Sequence[str]
    log: Path


@dataclass(frozen=True)
class Usage:
    """What a job took: seconds on the clock, and processor seconds including those of its children."""

    seconds: float
    cpu_seconds: float


def run_together(
    jobs: Sequence[Job],
    folder: Path,
    watch: Callable[[], object] = lambda: None,
    at_once: int | None = None,
    threads: int | None = None,
    finished: Callable[[Job, Usage], Job | None] = lambda job, usage: None,
    keep_going: bool = False,
) -> None:
    """Run tools at the same time, with the processor's cores shared between them.

    Args:
        jobs: what to run.
        folder: the folder to run in.
        watch: called about once a second.
        at_once: how many run at a time; default all.
        threads: per job; default its share of the cores.
        finished: called for each job that succeeded; a job that it returns runs next.
        keep_going: when one fails, run the others before raising.

    Raises:
        RunFailed: a job failed; the others are stopped, or with ``keep_going`` have run.
    """
    at_once = at_once or len(jobs)
    threads = threads or max(1, _cores() // at_once)
    environment = {**os.environ, 'OMP_NUM_THREADS': str(threads), 'MKL_NUM_THREADS': str(threads)}
    processes, failures = _Processes(folder, environment), []
    with ThreadPoolExecutor(at_once) as pool:
        try:
            left = {pool.submit(processes.run, job): job for job in jobs}
            while left:
                done, _ = wait(left, WATCH_SECONDS, FIRST_COMPLETED)
                watch()
                for future in done:
                    job = left.pop(future)
                    try:
                        usage = future.result()
                    except RunFailed as error:
                        if not keep_going:
                            raise
                        failures.append(str(error))
                    else:
                        if (following := finished(job, usage)) is not None:
                            left[pool.submit(processes.run, following)] = following
        except BaseException:
            processes.stop()
            raise
    if failures:
        raise RunFailed('; '.join(failures))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


class _Processes:
    """The processes that run now, each in a session of its own, so that its workers end with it."""

    def __init__(self, folder: Path, environment: dict[str, str]):
        self._folder, self._environment = folder, environment
        self._running: set[subprocess.Popen] = set()
        self._stopped = False
        self._lock = Lock()

    def run(self, job: Job) -> Usage:
        """Start a process and wait for its end."""
        start = time.monotonic()
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with self._lock, job.log.open('ab') as output:
            if self._stopped:
                raise RunFailed('stopped before it started')
            process = subprocess.Popen(
                [sys.executable, *job.arguments],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
            self._running.add(process)
        while process in self._running:
            time.sleep(POLL_SECONDS)
            with self._lock:  # `stop` must not signal a process id that another process has by now
                # Popen.poll does not tell what the process used
                pid, status, used = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    self._running.remove(process)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RunFailed(_failure(job, process.returncode))
        return Usage(time.monotonic() - start, used.ru_utime + used.ru_stime)

    def stop(self) -> None:
        """End all processes and start no other."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                os.killpg(process.pid, signal.SIGTERM)


def _failure(job: Job, code: int) -> str:
    lines = job.log.read_text(errors='replace').strip().splitlines() or ['no output']
    tool = Path(next(argument for argument in job.arguments if argument != '-m')).name
    return f'{tool} failed with code {code}: {lines[-1]} (whole log: {job.log})'
