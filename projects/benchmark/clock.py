"""Timing steps, interleaved: in every round each contender has one turn, so that noise meets all alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from .steps import Step


class CpuClock:
    """Milliseconds by the processor's clock."""

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
    failure: Callable[[Exception], str | None] = lambda error: None,
    progress: Callable[[str], None] = lambda name: None,
) -> Samples:
    """Warm all up, then time all of them round after round, the order rotating.

    Args:
        steps: what to time, by name.
        rounds: of timing.
        warmup: steps of each before the first round, at least one.
        min_seconds: a turn lasts at least so long; of its steps the median counts.
        failure: says why an exception lets a contender drop out; None: it is raised.
        progress: called before each turn with the name.
    """
    samples = Samples({name: [] for name in steps})

    def turn(name: str, count: int, lead_in: bool) -> float | None:
        progress(name)
        reason = None
        try:
            if lead_in:
                clock.lead_in(steps[name])
            times = clock.time(steps[name], count)
            clock.lead_out(steps[name])
            return float(np.median(times))
        except Exception as error:
            reason = failure(error)
            if reason is None:
                raise
        # after the except clause: the exception holds on to the memory of the step
        steps[name].reset()
        steps[name].release()
        samples.failures[name] = reason
        del samples.times[name]
        return None

    try:
        counts = {}
        for name in steps:
            if warmup > 1:
                turn(name, warmup - 1, lead_in=False)
            milliseconds = turn(name, 1, lead_in=False) if name in samples.times else None
            if milliseconds is not None:
                counts[name] = max(1, math.ceil(min_seconds * 1e3 / milliseconds))
        for index in range(rounds):
            for name in rotated(list(samples.times), index):
                milliseconds = turn(name, counts[name], lead_in=True)
                if milliseconds is not None:
                    samples.times[name].append(milliseconds)
    except KeyboardInterrupt:
        samples.interrupted = True
    complete = min(map(len, samples.times.values()), default=0)
    samples.times = {name: times[:complete] for name, times in samples.times.items()}
    return samples


def rotated(names: Sequence[str], index: int) -> list[str]:
    """``names``, beginning with another one each time."""
    first = index % len(names) if names else 0
    return [*names[first:], *names[:first]]


def quantiles(times: Sequence[float]) -> dict[str, float]:
    """Median, and the 20th and 80th percentile."""
    low, median, high = np.quantile(times, (0.2, 0.5, 0.8))
    return {'median_ms': float(median), 'p20_ms': float(low), 'p80_ms': float(high)}


def speed_ratio(times: Sequence[float], reference: Sequence[float], images: float = 1.0) -> float:
    """How many times as fast as the reference, of the same rounds: the median of their ratios.

    Args:
        images: images per step over those of the reference.
    """
    return float(np.median(np.asarray(reference) / np.asarray(times))) * images
