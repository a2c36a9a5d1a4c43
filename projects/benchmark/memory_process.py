"""The process in which the peak memory of one step on the CPU is measured.

Its argument is a JSON object; it writes another as the last line of stdout.
"""

from __future__ import annotations

import ctypes
import gc
import json
import resource
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from .clock import failure_of
from .contenders import parse_contenders
from .memory import MEBI, Peak
from .steps import Case
from .subjects import Subject

WARM_UP_SIZE = 64  # of the image whose step loads what the first one loads
_RESET_PEAK = '5'  # proc(5), clear_refs


def subject_from(spec: Mapping[str, Any]) -> Subject:
    """The subject that has this `Subject.spec`."""
    if 'backbone' in spec:
        return parse_contenders([spec['backbone']])[0]
    from .whole_model import WholeModel  # needs mmengine

    return WholeModel(spec['config'], tuple(spec['options']))


def measure_peak(subject: Subject, case: Case) -> Peak:
    """Build the network, run a step on a small image, then see how much memory one step takes."""
    torch.set_num_threads(case.threads)
    device = torch.device('cpu')
    torch.manual_seed(case.seed)
    model = subject.build()
    small = replace(case, batch=1, height=WARM_UP_SIZE, width=WARM_UP_SIZE)
    subject.step(model, small, device).run()
    step = subject.step(model, case, device)
    step.reset()
    _give_back_memory()
    whole_life = not _reset_peak()
    baseline = _status_kib('VmRSS')
    step.run()
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = used if whole_life else _status_kib('VmHWM')
    return Peak(baseline * 1024 / MEBI, max(0, peak - baseline) * 1024 / MEBI)


def _give_back_memory() -> None:
    """Return to the system what was freed since the start, if the C library is glibc."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if trim is not None:
        trim(0)


def _reset_peak() -> bool:
    """Let the kernel forget the peak so far; False where that is not permitted."""
    try:
        Path('/proc/self/clear_refs').write_text(_RESET_PEAK)
        _status_kib('VmHWM')
    except (OSError, KeyError):
        return False
    return True


def _status_kib(key: str) -> int:
    for line in Path('/proc/self/status').read_text().splitlines():
        name, _, value = line.partition(':')
        if name == key:
            return int(value.split()[0])
    raise KeyError(key)


def main() -> None:
    request = json.loads(sys.argv[1])
    try:
        answer = asdict(measure_peak(subject_from(request['subject']), Case(**request['case'])))
    except Exception as error:
        answer = {'failure': failure_of(error)}
    print(json.dumps(answer), flush=True)


if __name__ == '__main__':
    main()
