"""What ``tools/benchmark.py`` does."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from weightformer_mm.errors import Interrupted, LibraryMissing, UserError
from weightformer_mm.utils.translate import require_libraries
from weightformer_mm.utils.writing import make_folder, written_whole

from .ceilings import CeilingGauge
from .contenders import parse_contenders
from .machine import describe, now, resolve_device
from .measure import FILL, Method, measure_group
from .operations import TABLE, check_choices, measure_operations, stages_of
from .results import Results, render_rows
from .step_profile import profile_or_reason, render_profiles
from .steps import DTYPES, MODES, Case
from .subjects import Subject


@dataclass(frozen=True)
class Settings:
    """Options that several sub-commands share.

    Attributes:
        sizes: heights and widths in pixels.
        batch: images per step, or `FILL`.
        dtype: one of `DTYPES`.
        device: ``'auto'``, ``'cpu'``, ``'cuda'`` or ``'cuda:N'``.
        rounds, warmup, min_seconds: as `clock.interleave` takes them.
        threads: of PyTorch on the CPU; None: as PyTorch chooses.
        out: CSV file to append to; None: the terminal only.
        seed: of images, weights and gradients.
    """

    sizes: Sequence[tuple[int, int]]
    batch: int | str = 1
    dtype: str = 'float32'
    device: str = 'auto'
    rounds: int = 10
    warmup: int = 2
    min_seconds: float = 0.0
    threads: int | None = None
    out: str | None = None
    seed: int = 0

    def check(self) -> None:
        """Raise a UserError for a value out of range."""
        if self.dtype not in DTYPES:
            raise UserError(f'--dtype {self.dtype}: choose one of {", ".join(DTYPES)}')
        for height, width in self.sizes:
            if min(height, width) < 1:
                raise UserError(f'--sizes {height}x{width}: expected positive numbers of pixels')
        least = {
            '--rounds': (self.rounds, 1),
            '--warmup': (self.warmup, 1),
            '--min-seconds': (self.min_seconds, 0),
            '--threads': (self.threads, 1),
            '--batch': (None if self.batch == FILL else self.batch, 1),
        }
        for option, (value, bound) in least.items():
            if value is not None and value < bound:
                raise UserError(f'{option} {value}: expected {bound} or more')

    def results(self) -> Results:
        return Results(None if self.out is None else Path(self.out).expanduser())

    def method(self, memory: bool, ceilings: bool) -> Method:
        """Set up the device and measure the most that it can do."""
        device = resolve_device(self.device)
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        if device.type == 'cuda':
            torch.cuda.set_device(device)
        return Method(
            device,
            self.rounds,
            self.warmup,
            self.min_seconds,
            memory,
            describe(device),
            CeilingGauge(device, self.dtype) if ceilings else None,
        ).with_new_ceilings()


def run_backbones(settings: Settings, contenders: Sequence[str], *choices: Any) -> Results:
    """Measure backbones by name; ``choices`` and errors as in `run_subjects`."""
    return run_subjects(settings, parse_contenders(contenders), *choices)


def run_detectors(
    settings: Settings, configs: Sequence[str], *choices: Any, options: Sequence[str] = ()
) -> Results:
    """Measure the whole models of config files; ``choices`` and errors as in `run_subjects`."""
    require_libraries('mmengine')
    from .whole_model import WholeModel

    subjects = [WholeModel(config, tuple(options)) for config in configs]
    names = [subject.name for subject in subjects]
    repeated = [name for index, name in enumerate(names) if name in names[:index]]
    if repeated:
        raise UserError(
            f'two configs are called {repeated[0]}, but rows are told apart by that name'
        )
    return run_subjects(settings, subjects, *choices)


def run_subjects(
    settings: Settings,
    subjects: Sequence[Subject],
    modes: Sequence[str],
    memory: bool = True,
    ceilings: bool = True,
    resume: bool = False,
) -> Results:
    """Measure all subjects at all sizes in all modes, write the rows, and print them at the end.

    Args:
        memory: whether to measure peak memory.
        ceilings: whether to measure the ceilings, with which rates are compared.
        resume: leave out what the file already has from the same commit and machine.

    Raises:
        UserError: bad input, before anything is measured.
    """
    settings.check()
    for mode in modes:
        if mode not in MODES:
            raise UserError(f'--modes: unknown {mode!r}; choose from {", ".join(MODES)}')
    results = settings.results()
    with _quiet_libraries():
        for subject in subjects:
            _refuse_bad_input(subject)
        method = settings.method(memory, ceilings)
        cases = [
            Case(mode, settings.dtype, 1, *size, torch.get_num_threads(), settings.seed)
            for size in settings.sizes
            for mode in modes
        ]
        with _printed_at_the_end(results), _progress(len(cases)) as show:
            for case in cases:
                where = f'{case.height}x{case.width} {case.mode}'
                if not (resume and _is_known(results, subjects, case, method)):
                    method = method.with_new_ceilings()
                    measure_group(
                        subjects,
                        case,
                        settings.batch,
                        method,
                        results,
                        lambda text, where=where: show(f'{where}: {text}'),
                    )
                show(where, advance=1)
    return results


def _refuse_bad_input(subject: Subject) -> None:
    """Raise a UserError for one that is wrong, before hours of work; other failures become rows later."""
    try:
        subject.build()
    except LibraryMissing:
        return
    except UserError:
        raise
    except Exception:
        return


def _is_known(results: Results, subjects: Sequence[Subject], case: Case, method: Method) -> bool:
    rows = [method.row(subject.name, case) for subject in subjects]
    return all(results.has(row) for row in rows)


def run_profile(settings: Settings, contenders: Sequence[str], out: str) -> None:
    """Write where the time of a training step goes, for every contender and size, as Markdown.

    Raises:
        UserError: bad input.
    """
    settings.check()
    path = Path(out).expanduser()
    if path.suffix != '.md':
        raise UserError(f'--profile {out}: expected a name that ends in .md')
    if settings.batch == FILL:
        raise UserError('--batch fill and --profile exclude each other; give a number')
    if settings.out is not None:
        raise UserError('--out and --profile exclude each other: a profile has no rows')
    subjects = parse_contenders(contenders)
    for subject in subjects:
        if 'compile' in subject.variants:
            raise UserError(
                f'--profile {subject.name}: compiled code has no single operations to tell apart'
            )
        for size in settings.sizes:
            if refusal := subject.refuses(*size):
                raise UserError(f'{subject.name} at {size[0]}x{size[1]}: {refusal}')
    make_folder(path.parent, '--profile')
    pairs = [(size, subject) for size in settings.sizes for subject in subjects]
    with _quiet_libraries(), _progress(len(pairs)) as show:
        method = settings.method(memory=False, ceilings=True)
        profiles = []
        for size, subject in pairs:
            threads = torch.get_num_threads()
            case = Case('train', settings.dtype, settings.batch, *size, threads, settings.seed)
            profiles.append(profile_or_reason(subject, case, method.device))
            show(subject.name, advance=1)
    cells = method.machine
    header = (
        f'{cells["device"]}, {cells["threads"]} threads, torch {cells["torch"]}, commit '
        f'{cells["commit"] or "unknown"}, {now()}.'
    )
    with written_whole(path) as partial:
        partial.write_text(render_profiles(profiles, method.ceilings, header), encoding='utf-8')
    print(path)


def run_operations(
    settings: Settings,
    arch: str,
    names: Sequence[str] = (),
    backends: Sequence[str] = ('auto',),
) -> Results:
    """Measure single operations at the shapes of each stage of a network.

    Args:
        arch: as `stages_of` takes it.
        names: names in `operations.TABLE`; none: all.

    Raises:
        UserError: bad input.
    """
    settings.check()
    if settings.batch == FILL:
        raise UserError('--batch fill is for whole networks; give a number')
    stages = [stage for size in settings.sizes for stage in stages_of(arch, *size, settings.batch)]
    names = list(names or TABLE)
    check_choices(names, backends)
    results = settings.results()
    method = settings.method(memory=False, ceilings=True)
    total = len(stages) * len(names) * 2
    with _printed_at_the_end(results), _progress(total) as show:
        measure_operations(
            names,
            stages,
            backends,
            settings.dtype,
            settings.seed,
            method,
            results,
            lambda text: show(text, advance=1),
        )
    return results


@contextmanager
def _progress(total: int) -> Iterator[Callable[..., None]]:
    """A bar on stderr; yields a function that sets its text and, with ``advance``, moves it on.

    It is drawn only between the steps: a thread that draws would disturb what is timed.
    """
    console = Console(stderr=True)
    with Progress(console=console, auto_refresh=False, transient=True) as bars:
        bar = bars.add_task('', total=total)

        def show(text: str, advance: int = 0) -> None:
            bars.update(bar, description=text, advance=advance, refresh=True)
            if advance and not console.is_terminal:  # a line of a log file
                console.print(text, markup=False)

        yield show


@contextmanager
def _printed_at_the_end(results: Results) -> Iterator[None]:
    """Print what was measured, also after Ctrl-C."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        _print(results)
        raise
    _print(results)


def _print(results: Results) -> None:
    print(f'\n{render_rows(results.new)}' if results.new else 'nothing was measured')
    if results.path is not None:
        print(f'\n{results.path}')


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Without the libraries' warnings, which would break up the progress bar."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield
