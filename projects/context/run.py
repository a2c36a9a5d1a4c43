"""Train every variant with every seed, several at a time, and report; what is done is not done again."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from tqdm import tqdm

from weightformer_mm.errors import UserError

from ..runs import Job, run_together
from ..runs.progress import newest_loss
from .report import write_report
from .runs import BAND, DEFAULT_SEEDS, MARKER, ContextRun
from .variants import HARD_VARIANTS, choose


def run_context(
    repository: Path,
    out: Path,
    seeds: Sequence[int] = DEFAULT_SEEDS,
    names: Sequence[str] | None = None,
    hard: bool = False,
    force: bool = False,
    at_once: int = 2,
    docs: Path | None = None,
    epochs: int | None = None,
) -> str:
    """Make the data, train what is not trained yet, write table and plot; return the table.

    Args:
        repository: folder with ``configs`` and ``tools``; the data lies in its ``data``.
        out: folder of the runs, of ``table.md``, ``table.json`` and ``plot.png``.
        seeds: each variant is trained once with each.
        names: of the variants; default all, of the hard version `HARD_VARIANTS`.
        hard: a small marker in place of the band.
        force: train everything anew.
        at_once: so many trainings run at a time, with one thread each.
        docs: folder that gets a copy of the table and the plot.
        epochs: length of each training; None: as the config has it.

    Raises:
        RunFailed: a training failed; the others run first, and the report has what succeeded.
        UserError: an unknown variant, or ``out`` holds something that this command did not write.
    """
    if len(set(seeds)) != len(seeds) or not seeds:
        raise UserError(f'expected different seeds, at least one; got {list(seeds)}')
    if epochs is not None and epochs < 1:
        raise UserError(f'expected at least one epoch, got {epochs}')
    task = (MARKER if hard else BAND).lasting(epochs).chosen(seeds, names)
    config = repository / task.config
    chosen = choose(list(names) if names else list(HARD_VARIANTS) if hard else None)
    runs = [
        ContextRun(config, name, backbone, seed, out / name / f'seed{seed}', epochs)
        for seed in seeds
        for name, backbone in chosen.items()
    ]
    _make_data(repository, config, out)
    for run in runs:
        run.prepare(repository, force)
    try:
        _train(repository, [run for run in runs if not run.is_done()], at_once)
    finally:
        done = [run for run in runs if run.is_done()]
        table = write_report(task, done, chosen, out, docs) if done else ''
    return table


def _make_data(repository: Path, config: Path, out: Path) -> None:
    """By the command that the config names."""
    _, tool, *options = shlex.split(Config.fromfile(config).prepare_data)
    run_together([Job([str(repository / tool), *options], out / 'make_shapes.log')], repository)


def _train(repository: Path, runs: list[ContextRun], at_once: int) -> None:
    if not runs:
        return
    jobs = [run.job(repository) for run in runs]
    run_of = dict(zip(map(id, jobs), runs))
    length = iterations(repository, runs[0].load_config())
    with tqdm(total=length * len(runs), desc='context', unit='it') as bar:

        def update() -> None:
            steps = {run: newest_loss(run.root) or (0, 0.0) for run in runs}
            going = [
                f'{run.variant}/{run.seed}' for run, (step, _) in steps.items() if 0 < step < length
            ]
            bar.set_postfix_str(' '.join(going), refresh=False)
            bar.update(sum(step for step, _ in steps.values()) - bar.n)

        run_together(
            jobs,
            repository,
            update,
            at_once,
            threads=1,
            finished=lambda job, usage: run_of[id(job)].finish(usage),
            keep_going=True,
        )


def iterations(repository: Path, cfg: Config) -> int:
    """Iterations of one training: epochs times full batches."""
    loader = cfg.train_dataloader
    images = len(list((repository / cfg.data_root / 'images' / 'train').iterdir()))
    rounding = math.floor if loader.get('drop_last') else math.ceil
    return cfg.train_cfg.max_epochs * rounding(images / loader.batch_size)
