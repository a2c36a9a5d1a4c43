"""Make the runs of the plan that have no record yet, several at a time; a stopped one goes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from weightformer_mm.apis.convert import Conversion, convert_checkpoint
from weightformer_mm.checkpoints.sources import WEIGHTS
from weightformer_mm.errors import RunFailed, UserError

from ..runs import run_together
from .networks import PUBLISHED, STATIC
from .plan import CONFIGS, METRICS, Run, all_runs, best_rate, scores_of, whole_recipes
from .sheets import write_sheet
from .training import Training

RESULTS = Path(__file__).with_name('results')


def read_records(results: Path = RESULTS) -> dict[str, dict]:
    """The records by the name of the run."""
    files = sorted(results.glob('*/*.json'))
    return {
        f'{file.parent.name}/{file.stem}': json.loads(file.read_text(encoding='utf-8'))
        for file in files
    }


def run_campaign(
    repository: Path,
    work_dir: Path,
    results: Path = RESULTS,
    data: Sequence[str] = tuple(METRICS),
    names: Sequence[str] | None = None,
    at_once: int = 2,
) -> None:
    """Make what has no record yet, with one thread each, until the plan knows no other run.

    Args:
        repository: the checkout whose code runs.
        work_dir: folder of checkpoints and logs; best outside the repository.
        results: folder of the records.
        data: which data sets.
        names: which runs; default all.
        at_once: how many at a time.

    Raises:
        RunFailed: a training failed; the others run first.
        UserError: there is no run of a name.
    """
    tried: set[Run] = set()
    failures: list[str] = []
    while True:
        scores = scores_of(read_records(results))
        runs = [run for run in all_runs(scores, tuple(data)) if run not in tried]
        if names is not None:
            unknown = sorted(set(names) - {run.name for run in (*runs, *tried)})
            if unknown:
                raise UserError(f'no run is called {unknown[0]!r}; {runs[0].name} is one')
            runs = [run for run in runs if run.name in names]
        tried.update(runs)
        trainings = [Training(run, work_dir, results) for run in runs]
        left = [training for training in trainings if not training.is_recorded()]
        if not runs:
            break
        try:
            _train(repository, left, at_once)
        except RunFailed as error:
            failures.append(str(error))
    if failures:
        raise RunFailed('; '.join(failures))


def ship(repository: Path, work_dir: Path, results: Path = RESULTS) -> list[Path]:
    """Put the weights of the whole recipes that have a record beside these, as float16; return the files."""
    records, files = read_records(results), []
    for run in (run for data in METRICS for run in whole_recipes(data) if run.name in records):
        checkpoint = work_dir / run.name / f'epoch_{records[run.name]["epochs"]}.pth'
        out = (repository / CONFIGS[run.protocol][run.data]).with_suffix(WEIGHTS)
        files.append(convert_checkpoint(str(checkpoint), out, Conversion(half=True), force=True))
    return files


def draw_sheets(work_dir: Path, results: Path, out: Path) -> None:
    """Write ``out/<data>.png`` for each set whose learning rates are searched: published pair and static."""
    scores = scores_of(read_records(results))
    for data in METRICS:
        rates = {name: best_rate(data, name, scores) for name in (PUBLISHED, STATIC)}
        if None not in rates.values():
            runs = {name: Run(data, name, rate) for name, rate in rates.items()}
            configs = {name: run.load_config() for name, run in runs.items()}
            networks = {
                name: (cfg, work_dir / runs[name].name / f'epoch_{cfg.max_epochs}.pth')
                for name, cfg in configs.items()
            }
            out.mkdir(parents=True, exist_ok=True)
            write_sheet(networks, out / f'{data}.png')
            print(out / f'{data}.png')


def _train(repository: Path, trainings: Sequence[Training], at_once: int) -> None:
    if not trainings:
        return
    waiting = list(trainings)
    with Progress(console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task('runs', total=len(trainings))

        def update() -> None:
            # the logs of those that run, which are the first that have not ended
            first = waiting[:at_once]
            going = ', '.join(f'{each.run.name} {each.step()}' for each in first)
            bars.update(bar, completed=len(trainings) - len(waiting), description=going or 'runs')

        jobs = {each.job(): each for each in trainings}
        run_together(
            list(jobs),
            repository,
            update,
            at_once,
            threads=1,
            finished=lambda job, usage: waiting.remove(jobs[job]),
            keep_going=True,
        )
