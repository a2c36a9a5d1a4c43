"""Where the time of a training step goes, by kind of operation, against the ceilings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from weightformer_mm.utils.tables import markdown_table

from .ceilings import Ceilings
from .clock import clock_of, failure_of
from .kinds import ALLOCATION, KINDS, LABEL, KindCounter
from .measure import Entrant
from .steps import Case
from .subjects import Subject

STEPS = 3
_ALLOCATING = ('aten::empty', 'aten::empty_strided', 'aten::resize_', 'cudaMalloc')


@dataclass(frozen=True)
class Part:
    """What one kind of operation takes in a step.

    Attributes:
        kind: one of `KINDS`.
        milliseconds: of the step; on a GPU of its kernels.
        multiply_adds, bytes: of its operations; each reads its inputs and writes its outputs once.
        calls: how many operations.
    """

    kind: str
    milliseconds: float
    multiply_adds: int
    bytes: int
    calls: int

    @property
    def works(self) -> bool:
        return bool(self.milliseconds or self.calls)


@dataclass(frozen=True)
class StepProfile:
    """A step, with and without the profiler.

    Attributes:
        name: of the contender.
        step_ms: median of a step without the profiler.
        parts: by time, the longest first.
        failure: why there are no times.
    """

    name: str
    case: Case
    step_ms: float = 0.0
    parts: tuple[Part, ...] = ()
    failure: str | None = None


def profile_or_reason(subject: Subject, case: Case, device: torch.device) -> StepProfile:
    """As `profile_step`; if that fails, a profile that says why."""
    try:
        return profile_step(subject, case, device)
    except Exception as error:
        return StepProfile(subject.name, case, failure=failure_of(error))


def profile_step(subject: Subject, case: Case, device: torch.device) -> StepProfile:
    """Profile a few steps, and time as many without the profiler."""
    entrant = Entrant.build(subject, case, device)
    clock = clock_of(device)
    clock.time(entrant.step, 2)
    step_ms = float(np.median(clock.time(entrant.step, STEPS)))
    activities = [ProfilerActivity.CPU]
    activities += [ProfilerActivity.CUDA] if device.type == 'cuda' else []
    counter = KindCounter()
    with counter.watch(entrant.model), counter:
        entrant.step.reset()
        entrant.step.run()  # the profiler's own first step is slower than the others
    counter = KindCounter()
    with counter.watch(entrant.model), profile(activities=activities) as profiler, counter:
        for _ in range(STEPS):
            entrant.step.reset()
            entrant.step.run()
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
    times = _times(profiler.events(), device)
    counters = (counter.multiply_adds, counter.bytes, counter.calls)
    parts = [
        Part(kind, times[kind] / STEPS, *(number[kind] // STEPS for number in counters))
        for kind in KINDS
    ]
    parts.sort(key=lambda part: -part.milliseconds)
    return StepProfile(subject.name, case, step_ms, tuple(part for part in parts if part.works))


def _times(events: Sequence[Any], device: torch.device) -> Counter[str]:
    """Milliseconds by kind; allocation is taken out of the kind that it happens in."""
    times: Counter[str] = Counter()
    for event in events:
        if event.device_type != DeviceType.CPU:
            continue
        if event.name.startswith(LABEL):
            used = _device_us(event) if device.type == 'cuda' else event.cpu_time_total
            times[event.name[len(LABEL) :]] += used / 1e3
        elif event.name in _ALLOCATING and device.type == 'cpu':
            kind = _kind_around(event)
            if kind is not None:
                times[kind] -= event.self_cpu_time_total / 1e3
                times[ALLOCATION] += event.self_cpu_time_total / 1e3
    return times


def _device_us(event: Any) -> float:
    # older versions of PyTorch call it by another name
    return getattr(event, 'device_time_total', None) or getattr(event, 'cuda_time_total', 0.0)


def _kind_around(event: Any) -> str | None:
    while (event := event.cpu_parent) is not None:
        if event.name.startswith(LABEL):
            return event.name[len(LABEL) :]
    return None


def render_profiles(profiles: Sequence[StepProfile], ceilings: Ceilings, header: str) -> str:
    """The profiles in Markdown, one table each.

    Args:
        header: what they were measured on.
    """
    about = (
        '# Where the time of a training step goes\n\n'
        f'{header}\n\n'
        f'Ceilings, measured in the same run: {ceilings.multiply_adds_per_s / 1e12:.3g} T multiply-adds/s '
        f'(matrix product), {ceilings.bytes_per_s / 1e9:.4g} GB/s (copy, bytes read and written). An '
        'operation counts with its inputs read once and its outputs written once; what the caches keep from '
        'one operation to the next is not subtracted. Its least time is the longer of the two times that the '
        "ceilings allow. Allocation is the time of PyTorch's allocator; the first touch of new memory counts "
        'with the operation that touches it.\n'
    )
    return '\n'.join([about, *(_section(profile, ceilings) for profile in profiles)])


_HEAD = (
    'kind',
    'ms',
    'share',
    'calls',
    'multiply-adds (G)',
    'bytes (GB)',
    'least ms by matmul',
    'least ms by copy',
    'least / taken',
)


def _section(profile: StepProfile, ceilings: Ceilings) -> str:
    case, parts = profile.case, profile.parts
    title = f'## {profile.name}, {case.height}x{case.width}, batch {case.batch}, {case.dtype}\n\n'
    if profile.failure is not None:
        return f'{title}Not measured: {profile.failure}\n'
    sums = (
        sum(getattr(part, name) for part in parts)
        for name in ('milliseconds', 'multiply_adds', 'bytes', 'calls')
    )
    whole = Part('all', *sums)
    least = [ceilings.least_seconds(part.multiply_adds, part.bytes) * 1e3 for part in parts]
    rows = [
        _cells(part, whole.milliseconds, ceilings, time)
        for part, time in zip((*parts, whole), (*least, sum(least)))
    ]
    return (
        f'{title}A step takes {profile.step_ms:.4g} ms; its operations under the profiler '
        f'{whole.milliseconds:.4g} ms.\n\n{markdown_table(_HEAD, rows, align=True)}'
    )


def _cells(part: Part, total: float, ceilings: Ceilings, least: float) -> list[str]:
    return [
        part.kind,
        f'{part.milliseconds:.4g}',
        f'{part.milliseconds / total:.1%}',
        str(part.calls),
        f'{part.multiply_adds / 1e9:.4g}',
        f'{part.bytes / 1e9:.4g}',
        f'{part.multiply_adds / ceilings.multiply_adds_per_s * 1e3:.4g}',
        f'{part.bytes / ceilings.bytes_per_s * 1e3:.4g}',
        f'{least / part.milliseconds:.1%}' if part.milliseconds and part.calls else '',
    ]
