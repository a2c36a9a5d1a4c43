"""Timing steps, interleaved: in every round each contender has one turn, so that noise affects all alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from weightformer_mm.utils.translate import explain

from .results import LOST
from .steps import Step

OUT_OF_MEMORY = 'out of memory'
_LONGEST = 300  # characters of a reason
_COMPILER = ('torch._dynamo', 'torch._inductor')


class CpuClock:
    """Milliseconds by the processor's clock."""

    def is_usable(self) -> bool:
        """Whether steps can run."""
        return True

    def lead_in(self, step: Step) -> None:
        """What comes before a turn: nothing."""

    def lead_out(self, step: Step) -> None:
        """What comes after a turn: nothing."""

    def time(self, step: Step, count: int) -> list[float]:
        """Milliseconds of each of ``count`` steps."""
        times = []
        for _ in range(count):
            step.reset()
            start = time.perf_counter()
            step.run()
            times.append((time.perf_counter() - start) * 1e3)
        step.reset()
        return times


class GpuClock:
    """Milliseconds by events of the GPU; steps are queued one after the other."""

    def __init__(self, device: torch.device):
        self.device = device

    def is_usable(self) -> bool:
        """Whether steps can run."""
        return is_usable(self.device)

    def lead_in(self, step: Step) -> None:
        """One step that does not count: it finds the allocator's memory in another contender's pieces."""
        step.reset()
        step.run()
        torch.cuda.synchronize(self.device)

    def lead_out(self, step: Step) -> None:
        """Leave the memory to the next contender."""
        step.release()

    def time(self, step: Step, count: int) -> list[float]:
        """Milliseconds of each of ``count`` steps."""
        events = []
        torch.cuda.synchronize(self.device)
        for _ in range(count):
            step.reset()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            step.run()
            end.record()
            events.append((start, end))
        torch.cuda.synchronize(self.device)
        step.reset()
        return [start.elapsed_time(end) for start, end in events]


def clock_of(device: torch.device) -> CpuClock | GpuClock:
    return GpuClock(device) if device.type == 'cuda' else CpuClock()


def failure_of(error: Exception) -> str:
    """Why a contender drops out, in one line."""
    problem = explain(error)
    if problem is not None:
        text = ' '.join(str(problem).split())
        return OUT_OF_MEMORY if text.startswith(OUT_OF_MEMORY) else text[:_LONGEST]
    kind = type(error)
    lines = str(error).strip().splitlines()
    # a compiler says first where, and then what; Triton shows the code in between
    text = ' '.join(
        lines[:2] if not kind.__module__.startswith('triton') else lines[:1] + lines[-1:]
    )
    compiling = 'torch.compile failed: ' if kind.__module__.startswith(_COMPILER) else ''
    return f'{compiling}{kind.__name__}: {text}'[:_LONGEST]


def is_usable(device: torch.device) -> bool:
    """Whether the device still computes; after some failures a GPU refuses all work of the process."""
    if device.type != 'cuda':
        return True
    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        return False
    return True


class _Lost(Exception):
    """The GPU takes no more work."""


@dataclass
class Samples:
    """Milliseconds per step, by contender: one value for each round that all contenders completed.

    Attributes:
        times: contender → one value per round.
        failures: contender → why it dropped out.
        interrupted: whether Ctrl-C ended the rounds early.
    """

    times: dict[str, list[float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False


def interleave(
    steps: Mapping[str, Step],
    clock: CpuClock | GpuClock,
    rounds: int,
    warmup: int,
    min_seconds: float = 0.0,
    progress: Callable[[str], None] = lambda name: None,
) -> Samples:
    """Warm up all steps, then time them round after round, in rotating order.

    A step that fails drops out. If it leaves the GPU unusable, the complete rounds count.

    Args:
        steps: what to time, by name.
        rounds: of timing.
        warmup: steps per contender before the first round, at least one.
        min_seconds: a turn lasts at least this long; the median of its steps counts.
        progress: called before each turn with the name.
    """
    samples, lost = Samples({name: [] for name in steps}), False

    def turn(name: str, count: int, timed: bool = False) -> float | None:
        progress(name)
        try:
            if timed:
                clock.lead_in(steps[name])
            times = clock.time(steps[name], count)
            clock.lead_out(steps[name])
            return float(np.median(times))
        except Exception as error:
            reason = failure_of(error)
        # after the except clause: the exception holds on to the memory of the step
        steps[name].reset()
        steps[name].release()
        samples.failures[name] = reason
        del samples.times[name]
        if not clock.is_usable():
            raise _Lost
        return None

    try:
        if not clock.is_usable():
            raise _Lost
        counts = {}
        for name in steps:
            if warmup > 1:
                turn(name, warmup - 1)
            milliseconds = turn(name, 1) if name in samples.times else None
            if milliseconds is not None:
                counts[name] = max(1, math.ceil(min_seconds * 1e3 / milliseconds))
        for index in range(rounds):
            for name in rotated(list(samples.times), index):
                milliseconds = turn(name, counts[name], timed=True)
                if milliseconds is not None:
                    samples.times[name].append(milliseconds)
    except KeyboardInterrupt:
        samples.interrupted = True
    except _Lost:
        lost = True
    complete = min(map(len, samples.times.values()), default=0)
    if lost and not complete:
        samples.failures.update(dict.fromkeys(samples.times, LOST))
        samples.times.clear()
    samples.times = {name: times[:complete] for name, times in samples.times.items()}
    return samples


def rotated(names: Sequence[str], index: int) -> list[str]:
    """``names``, beginning with another one each time."""
    first = index % len(names) if names else 0
    return [*names[first:], *names[:first]]
