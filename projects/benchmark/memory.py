"""Peak memory of one step: on a GPU from its allocator, on a CPU from a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import torch

from weightformer_mm.errors import RunFailed

from .machine import available_memory
from .steps import Case, Step

MEBI = 2**20
KEEP_FREE = 0.1  # of the available memory
POLL_SECONDS = 0.02
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Peak:
    """MiB before the step and at its peak, as `COLUMNS` defines them."""

    baseline_mib: float
    peak_mib: float


def peak_on_gpu(step: Step, device: torch.device, others: int) -> Peak:
    """Peak of the allocator over one step.

    Args:
        others: bytes that the networks measured beside it had allocated before this one was built.
    """
    step.reset()
    step.release()  # so that a graph is recorded again: a replay allocates nothing
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device) - others
    step.run()
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device) - others
    step.reset()
    return Peak(before / MEBI, peak / MEBI)


def can_measure_processes() -> bool:
    """Whether the system says what memory a process has."""
    return Path('/proc/self/status').is_file()


def peak_in_process(subject: Mapping[str, Any], case: Case) -> Peak | str:
    """Build a network in a new process, run one step there and see how much memory it took.

    In a shared process, memory that the C library keeps after earlier steps would count as well.

    Args:
        subject: its `Subject.spec`.

    Returns:
        The peak, or why there is none: an exception, or the process was killed before it took all memory.

    Raises:
        RunFailed: the process ended without an answer.
    """
    budget = available_memory()
    paths = [str(_ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(paths)}
    environment.update(dict.fromkeys(('OMP_NUM_THREADS', 'MKL_NUM_THREADS'), str(case.threads)))
    request = json.dumps({'subject': dict(subject), 'case': asdict(case)})
    command = [sys.executable, '-m', f'{__package__}.memory_process', request]
    with tempfile.TemporaryFile('w+') as out, tempfile.TemporaryFile('w+') as err:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment
        )
        try:
            killed = _watch(process, budget)
        finally:
            process.kill()
            process.wait()
        answers, errors = (_lines(file) for file in (out, err))
    if killed:
        return f'out of memory: stopped above {budget * (1 - KEEP_FREE) / MEBI:.0f} MiB'
    if process.returncode == -signal.SIGKILL:
        return 'out of memory: killed by the system'
    if process.returncode != 0 or not answers:
        reason = errors[-1] if errors else f'exit code {process.returncode}'
        raise RunFailed(f'the process that measures memory failed: {reason}')
    answer = json.loads(answers[-1])
    return answer['failure'] if 'failure' in answer else Peak(**answer)


def _lines(file: TextIO) -> list[str]:
    file.seek(0)
    return file.read().strip().splitlines()


def _watch(process: subprocess.Popen, budget: int | None) -> bool:
    """Wait for the process to end; kill it and return True if it exceeds its share of the budget."""
    while process.poll() is None:
        resident = _resident_bytes(process.pid)
        if budget is not None and resident > budget * (1 - KEEP_FREE):
            process.kill()
            return True
        time.sleep(POLL_SECONDS)
    return False


def _resident_bytes(pid: int) -> int:
    """Of a process; 0 where the system does not say."""
    try:
        pages = int(Path(f'/proc/{pid}/statm').read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf('SC_PAGE_SIZE')
