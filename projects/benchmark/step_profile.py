"""Where the time of a training step goes, by kind of operation, against the ceilings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from .ceilings import Ceilings
from .clock import clock_of
from .kinds import ALLOCATION, KINDS, LABEL, KindCounter
from .measure import Entrant
from .steps import Case
from .subjects import Backbone

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
    """

    name: str
    case: Case
    step_ms: float
    parts: tuple[Part, ...]


def profile_step(subject: Backbone, case: Case, device: torch.device) -> StepProfile:
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
    parts = [
        Part(
            kind,
            times[kind] / STEPS,
            counter.multiply_adds[kind] // STEPS,
            counter.bytes[kind] // STEPS,
            counter.calls[kind] // STEPS,
        )
        for kind in KINDS
    ]
    parts.sort(key=lambda part: -part.milliseconds)
    return StepProfile(subject.name, case, step_ms, tuple(part for part in parts if part.works))


def _times(events: Sequence[Any], device: torch.device) -> Counter[str]:
    """Milliseconds by kind; what allocates is taken out of the kind that it happens in."""
    times: Counter[str] = Counter()
    for event in events:
        if event.device_type != DeviceType.CPU:
            continue
        if event.name.startswith(LABEL):
            kind = event.name[len(LABEL) :]
            times[kind] += (
                _device_us(event) if device.type == 'cuda' else event.cpu_time_total
            ) / 1e3
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
    parent = event.cpu_parent
    while parent is not None:
        if parent.name.startswith(LABEL):
            return parent.name[len(LABEL) :]
        parent = parent.cpu_parent
    return None


def render_profiles(profiles: Sequence[StepProfile], ceilings: Ceilings, header: str) -> str:
    """The profiles in Markdown, one table each.

    Args:
        header: what they were measured on.
    """
    parts = [
        '# Where the time of a training step goes\n',
        header,
        f'\nCeilings, measured in the same run: {ceilings.multiply_adds_per_s / 1e12:.3g} T multiply-adds/s '
        f'(matrix product), {ceilings.bytes_per_s / 1e9:.4g} GB/s (copy, bytes read and written). An '
        'operation counts with its inputs read once and its outputs written once; what the caches keep from '
        'one operation to the next is not taken off. Its least time is the longer of what both ceilings '
        "allow. Allocation is what PyTorch's allocator takes; the first touch of new memory counts with the "
        'operation that touches it.\n',
    ]
    return '\n'.join([*parts, *(_section(profile, ceilings) for profile in profiles)])


def _section(profile: StepProfile, ceilings: Ceilings) -> str:
    case = profile.case
    total = sum(part.milliseconds for part in profile.parts)
    lines = [
        f'## {profile.name}, {case.height}x{case.width}, batch {case.batch}, {case.dtype}\n',
        f'A step takes {profile.step_ms:.4g} ms; its operations under the profiler {total:.4g} ms.\n',
        '| kind | ms | share | calls | multiply-adds (G) | bytes (GB) | least ms by matmul | '
        'least ms by copy | least / taken |',
        '|---|--:|--:|--:|--:|--:|--:|--:|--:|',
    ]
    whole = Part(
        'all',
        total,
        sum(part.multiply_adds for part in profile.parts),
        sum(part.bytes for part in profile.parts),
        sum(part.calls for part in profile.parts),
    )
    least = sum(
        ceilings.least_seconds(part.multiply_adds, part.bytes) * 1e3 for part in profile.parts
    )
    lines += [_line(part, total, ceilings, None) for part in profile.parts]
    lines.append(_line(whole, total, ceilings, least))
    return '\n'.join(lines) + '\n'


def _line(part: Part, total: float, ceilings: Ceilings, least: float | None) -> str:
    """A row; ``least`` milliseconds, where they are not those of the sums."""
    return '| ' + ' | '.join(_cells(part, total, ceilings, least)) + ' |'


def _cells(part: Part, total: float, ceilings: Ceilings, least: float | None) -> Iterator[str]:
    if least is None:
        least = ceilings.least_seconds(part.multiply_adds, part.bytes) * 1e3
    yield part.kind
    yield f'{part.milliseconds:.4g}'
    yield f'{part.milliseconds / total:.1%}'
    yield str(part.calls)
    yield f'{part.multiply_adds / 1e9:.4g}'
    yield f'{part.bytes / 1e9:.4g}'
    yield f'{part.multiply_adds / ceilings.multiply_adds_per_s * 1e3:.4g}'
    yield f'{part.bytes / ceilings.bytes_per_s * 1e3:.4g}'
    yield f'{least / part.milliseconds:.1%}' if part.milliseconds and part.calls else ''
