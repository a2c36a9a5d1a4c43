"""Make the runs of the plan that have no record yet, several at a time; a stopped one goes on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from weightformer_mm.errors import UserError

from ..runs import Job, RunFolder, newest_of, newest_scalars, run_together
from .plan import METRICS, Run, all_runs

RESULTS = Path(__file__).with_name('results')
STATE_FILE = 'real_pictures_run.json'
COMMAND = 'tools/real_pictures.py'
CODE = ('weightformer_mm', 'configs', 'projects', ':(exclude)projects/real_pictures/results')


class Training(RunFolder):
    """The folder of one run, and its record among the results.

    Args:
        run: what is trained.
        work_dir: folder of all runs.
        results: folder of all records.
    """

    def __init__(self, run: Run, work_dir: Path, results: Path):
        super().__init__(work_dir / run.name, STATE_FILE)
        self.run, self.record = run, results / f'{run.name}.json'

    def prepare(self, commit: str) -> None:
        """Claim the folder; what another config left is removed, an interrupted run of this one is kept."""
        digest = hashlib.sha256(self.run.load_config().dump().encode()).hexdigest()
        self.claim(digest, COMMAND)
        is_begun = any(self.root.glob('*.pth'))
        commits = self.read_state()['commits'] if is_begun else []
        self.write_state(commits=list(dict.fromkeys([*commits, commit])))

    def job(self) -> Job:
        options = [
            f'--{name}={value}'
            for name, value in dataclasses.asdict(self.run).items()
            if value is not None
        ]
        places = ['--work-dir', str(self.root), '--record', str(self.record)]
        commits = ['--commits', *self.read_state()['commits']]
        program = ['-m', f'{__package__}.one_run']
        return Job([*program, *options, *places, *commits], self.root / 'train.log')

    def step(self) -> int:
        line = newest_of(newest_scalars(self.root), 'loss')
        return line['step'] if line else 0


def read_records(results: Path = RESULTS) -> dict[str, dict]:
    """The records by the name of the run."""
    files = sorted(results.glob('*/*.json'))
    return {
        f'{file.parent.name}/{file.stem}': json.loads(file.read_text(encoding='utf-8'))
        for file in files
    }


def scores_of(records: dict[str, dict]) -> dict[str, float]:
    """The deciding metric by the name of the run."""
    return {name: record['metrics'][METRICS[record['data']]] for name, record in records.items()}


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
    commit = _commit(repository)
    while True:
        runs = all_runs(scores_of(read_records(results)), tuple(data))
        unknown = [name for name in names or () if name not in {run.name for run in runs}]
        if unknown:
            raise UserError(
                f'no run is called {unknown[0]!r}; the plan has, for instance, {runs[0].name}'
            )
        chosen = [run for run in runs if names is None or run.name in names]
        trainings = [Training(run, work_dir, results) for run in chosen]
        left = [training for training in trainings if not training.record.is_file()]
        if not left:
            return
        _train(repository, left, commit, at_once)


def _train(repository: Path, trainings: list[Training], commit: str, at_once: int) -> None:
    for training in trainings:
        training.prepare(commit)
    done: list[str] = []
    with Progress(console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task('runs', total=len(trainings))

        def update() -> None:
            finished = sum(training.record.is_file() for training in trainings)
            going = [
                f'{each.run.name} {each.step()}'
                for each in trainings
                if each.step() and not each.record.is_file()
            ]
            bars.update(bar, completed=finished, description=', '.join(going) or 'runs')

        run_together(
            [training.job() for training in trainings],
            repository,
            update,
            at_once,
            threads=1,
            finished=lambda job, usage: done.append(job.log.parent.name),
            keep_going=True,
        )


def _commit(repository: Path) -> str:
    """The commit that is checked out, with ``-dirty`` if a file that a run reads differs from it."""
    head, changes = (
        subprocess.run(['git', *words], cwd=repository, capture_output=True, text=True, check=False)
        for words in (['rev-parse', '--short=12', 'HEAD'], ['status', '--porcelain', '--', *CODE])
    )
    if head.returncode:
        raise UserError(f'{repository} is no checkout of git, so no record could name its commit')
    return head.stdout.strip() + ('-dirty' if changes.stdout else '')
