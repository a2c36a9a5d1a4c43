"""Measuring all contenders at one size in one mode: memory, then interleaved times, then rows."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from weightformer_mm.errors import Interrupted, RunFailed

from .ceilings import CeilingGauge, Ceilings
from .clock import OUT_OF_MEMORY, Samples, clock_of, failure_of, interleave, is_usable
from .machine import now
from .memory import Peak, can_measure_processes, peak_in_process, peak_on_gpu
from .results import LOST, Results
from .steps import Case, Step, make_images
from .subjects import Subject

FILL = 'fill'
FILL_FRACTION = 0.95  # of the GPU's memory


@dataclass(frozen=True)
class Method:
    """How to measure.

    Attributes:
        device: where.
        rounds, warmup, min_seconds: as `interleave` takes them.
        memory: whether to measure peak memory, which on a CPU also guards against using it all up.
        machine: cells that are the same in all rows.
        gauge: of the ceilings, if they are to be measured.
        ceilings: as the gauge has them at present.
    """

    device: torch.device
    rounds: int
    warmup: int
    min_seconds: float
    memory: bool
    machine: dict[str, Any]
    gauge: CeilingGauge | None = None
    ceilings: Ceilings | None = None

    def with_new_ceilings(self) -> Method:
        """The same with the ceilings measured again."""
        if self.gauge is None or not is_usable(self.device):
            return self
        return replace(self, ceilings=self.gauge.measure())

    def time(
        self, steps: Mapping[str, Step], progress: Callable[[str], None] = lambda name: None
    ) -> Samples:
        """Time steps, interleaved."""
        clock = clock_of(self.device)
        return interleave(steps, clock, self.rounds, self.warmup, self.min_seconds, progress)

    def row(self, name: str, case: Case, **cells: Any) -> dict[str, Any]:
        """A row of the CSV file."""
        keys = ('mode', 'dtype', 'batch', 'height', 'width', 'seed')
        of_case = {key: getattr(case, key) for key in keys}
        ceilings = self.ceilings.cells() if self.ceilings else {}
        return {'date': now(), **self.machine, **ceilings, 'contender': name, **of_case, **cells}


@dataclass
class Entrant:
    """A contender that is built.

    Attributes:
        step: what is timed.
        peak: its memory, if that was measured.
    """

    subject: Subject
    case: Case
    model: nn.Module
    step: Step
    peak: Peak | None = None

    @classmethod
    def build(cls, subject: Subject, case: Case, device: torch.device) -> Entrant:
        torch.manual_seed(case.seed)
        model = subject.build().to(device)
        return cls(subject, case, model, subject.step(model, case, device))

    def use_batch(self, images: int, device: torch.device) -> None:
        """Change the number of images in a step."""
        self.case = replace(self.case, batch=images)
        self.step = self.subject.step(self.model, self.case, device)


def measure_group(
    subjects: Sequence[Subject],
    case: Case,
    batch: int | str,
    method: Method,
    results: Results,
    progress: Callable[[str], None] = lambda text: None,
) -> None:
    """Measure every subject at the size and in the mode of ``case``, and add the rows to ``results``.

    A subject that fails, whatever the reason, gets a row that says why.

    Args:
        batch: images per step, or `FILL`: as many as fit on a GPU, 1 on a CPU.

    Raises:
        Interrupted: by Ctrl-C; the rows of the complete rounds are added before.
    """
    entrants: dict[str, Entrant] = {}
    for subject in subjects:
        progress(f'{subject.name}: memory')
        entrant = _enter(subject, case, batch, method)
        if isinstance(entrant, str):
            images = None if batch == FILL else batch
            results.add([method.row(subject.name, case, batch=images, note=entrant)])
        else:
            entrants[subject.name] = entrant
    steps = {name: entrant.step for name, entrant in entrants.items()}
    samples = method.time(steps, lambda name: progress(f'{name}: time'))
    failed = samples.failures.items()
    results.add([method.row(name, entrants[name].case, note=reason) for name, reason in failed])
    results.add(_rows(subjects[0].name, entrants, samples, method))
    if samples.interrupted:
        raise Interrupted('interrupted; complete rounds are kept')


def _enter(subject: Subject, case: Case, batch: int | str, method: Method) -> Entrant | str:
    """Build it and measure its memory, or return why that failed."""
    refusal = subject.refuses(case.height, case.width)
    if refusal is not None:
        return refusal
    if not is_usable(method.device):
        return LOST
    case = replace(case, batch=1 if batch == FILL else batch)
    try:
        if method.device.type == 'cpu':
            return _enter_cpu(subject, case, method)
        return _enter_gpu(subject, case, batch == FILL, method)
    except Exception as error:
        reason = failure_of(error)
    # after the except clause: the exception holds on to the memory of the step
    if method.device.type == 'cuda' and is_usable(method.device):
        free_gpu()
    return reason


def _enter_cpu(subject: Subject, case: Case, method: Method) -> Entrant | str:
    peak = None
    if method.memory and can_measure_processes():
        peak = peak_in_process(subject.spec(), case)
        if isinstance(peak, str):
            return peak
    entrant = Entrant.build(subject, case, method.device)
    entrant.peak = peak
    return entrant


def _enter_gpu(subject: Subject, case: Case, fill: bool, method: Method) -> Entrant:
    free_gpu()
    # all share the images, which count for each
    images = make_images(case, method.device)
    others = torch.cuda.memory_allocated(method.device) - images.nbytes
    entrant = Entrant.build(subject, case, method.device)
    if fill:
        _fill(entrant, method.device)
    if method.memory:
        entrant.step.run()  # only the first step allocates workspaces and the like
        entrant.peak = peak_on_gpu(entrant.step, method.device, others)
        entrant.step.release()
    return entrant


def _fill(entrant: Entrant, device: torch.device) -> None:
    """Give it the largest batch that fits, leaving a little memory for the weights of others."""

    def fits(images: int) -> bool:
        free_gpu()
        try:
            entrant.use_batch(images, device)
            entrant.step.run()
            torch.cuda.synchronize(device)
            return True
        except Exception as error:
            if failure_of(error) != OUT_OF_MEMORY:
                raise
            return False
        finally:
            entrant.step.reset()
            entrant.step.release()

    torch.cuda.set_per_process_memory_fraction(FILL_FRACTION, device)
    try:
        images = largest_batch(fits)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    free_gpu()
    entrant.use_batch(images, device)


def largest_batch(fits: Callable[[int], bool]) -> int:
    """The largest batch that fits: double until one does not, then halve the interval.

    Raises:
        RunFailed: not even one image fits.
    """
    if not fits(1):
        raise RunFailed(OUT_OF_MEMORY)
    most = 1
    while fits(2 * most):
        most *= 2
    too_many = 2 * most
    while too_many - most > 1:
        middle = (most + too_many) // 2
        most, too_many = (middle, too_many) if fits(middle) else (most, middle)
    return most


def free_gpu() -> None:
    """Give cached memory back, so that what fits does not depend on what ran before."""
    gc.collect()
    torch.cuda.empty_cache()


def _rows(
    first: str, entrants: Mapping[str, Entrant], samples: Samples, method: Method
) -> list[dict[str, Any]]:
    """One row for each contender that completed a round."""
    batches = {name: entrant.case.batch for name, entrant in entrants.items()}
    rows = []
    for name in filter(samples.times.get, samples.times):
        entrant = entrants[name]
        cells = time_cells(samples, name, first, batches)
        cells['parameters'] = sum(weight.numel() for weight in entrant.model.parameters())
        if entrant.peak is not None:
            cells.update(asdict(entrant.peak))
        try:
            work = entrant.subject.multiply_adds(entrant.case)
        except Exception as error:
            work = None
            cells['note'] = f'multiply-adds not counted: {failure_of(error)}'
        if work is not None:
            cells.update(work_cells(work, None, cells['median_ms'], method.ceilings))
        rows.append(method.row(name, entrant.case, **cells))
    return rows


def time_cells(
    samples: Samples, name: str, first: str, batches: Mapping[str, int]
) -> dict[str, Any]:
    """The cells that follow from the times of ``name`` and, if ``first`` completed a round, of ``first``.

    Args:
        batches: images per step of each.
    """
    times = samples.times[name]
    cells: dict[str, Any] = {**quantiles(times), 'rounds': len(times)}
    cells['images_per_s'] = batches[name] / cells['median_ms'] * 1e3
    if samples.times.get(first):
        images = batches[name] / batches[first]
        cells['speed_ratio'] = speed_ratio(times, samples.times[first], images)
        cells['ratio_to'] = first
    return cells


def quantiles(times: Sequence[float]) -> dict[str, float]:
    """Median, and the 20th and 80th percentile."""
    low, median, high = np.quantile(times, (0.2, 0.5, 0.8))
    return {'median_ms': float(median), 'p20_ms': float(low), 'p80_ms': float(high)}


def speed_ratio(times: Sequence[float], reference: Sequence[float], images: float = 1.0) -> float:
    """How many times as fast as the reference: the median of the ratios within the same rounds.

    Args:
        images: images per step over those of the reference.
    """
    return float(np.median(np.asarray(reference) / np.asarray(times))) * images


def work_cells(
    multiply_adds: int, moved: int | None, milliseconds: float, ceilings: Ceilings | None
) -> dict[str, Any]:
    """The cells that follow from the work in a step and its time.

    Args:
        moved: the fewest bytes that it must move; None: unknown.
    """
    seconds = milliseconds / 1e3
    cells: dict[str, Any] = {
        'multiply_adds': multiply_adds,
        'tera_multiply_adds_per_s': multiply_adds / seconds / 1e12,
        'bytes': moved,
    }
    if ceilings is not None:
        cells['share_of_matmul'] = multiply_adds / seconds / ceilings.multiply_adds_per_s
        if moved is not None:
            cells['share_of_copy'] = moved / seconds / ceilings.bytes_per_s
    return cells
