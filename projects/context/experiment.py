"""Train every variant with every seed, several at a time, and report; finished trainings are kept."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from rich.console import Console
from rich.progress import Progress

from weightformer_mm.backbones.strategies import ATTENTION, PUBLISHED, STATIC, compared_strategies
from weightformer_mm.errors import UserError

from ..runs import Job, newest_of, newest_scalars, run_together
from .outcome import write_outcome
from .training import BAND, DEFAULT_SEEDS, MARKER, Training

HARD_VARIANTS = (STATIC, PUBLISHED, ATTENTION)  # of the hard version


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
        repository: folder with ``configs`` and ``tools``; the data goes to its ``data``.
        out: folder for the trainings, ``table.md``, ``table.json`` and ``plot.png``.
        seeds: each variant is trained once with each of them.
        names: of the variants; default all, or `HARD_VARIANTS` in the hard version.
        hard: a small marker in place of the band.
        force: start over.
        at_once: how many trainings run at a time, with one thread each.
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
    task = (MARKER if hard else BAND).with_options(seeds, names, epochs)
    config = repository / task.config
    variants = choose(names or (HARD_VARIANTS if hard else None))
    trainings = [
        Training(config, name, backbone, seed, out / name / f'seed{seed}', epochs)
        for seed in seeds
        for name, backbone in variants.items()
    ]
    _, tool, *options = shlex.split(Config.fromfile(config).prepare_data)
    run_together([Job([str(repository / tool), *options], out / 'make_shapes.log')], repository)
    for training in trainings:
        training.prepare(repository, force)
    try:
        _train(repository, [each for each in trainings if not each.is_done()], at_once)
    finally:
        done = [training for training in trainings if training.is_done()]
        table = write_outcome(task, done, variants, out, docs) if done else ''
    return table


def choose(names: Sequence[str] | None) -> dict[str, dict[str, str]]:
    """The variants of these names in the order of the table; all for None.

    Raises:
        UserError: there is no variant of a name.
    """
    table = compared_strategies()
    unknown = [name for name in names or () if name not in table]
    if unknown:
        raise UserError(f'unknown variant {unknown[0]!r}; choose from {", ".join(table)}')
    return {name: table[name] for name in table if names is None or name in names}


def _train(repository: Path, trainings: list[Training], at_once: int) -> None:
    if not trainings:
        return
    jobs = {training.job(repository): training for training in trainings}
    length = iterations(repository, trainings[0].load_config())
    with Progress(console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task('context', total=length * len(trainings))

        def update() -> None:
            losses = {each: newest_of(newest_scalars(each.root), 'loss') for each in trainings}
            steps = {each: line['step'] if line else 0 for each, line in losses.items()}
            going = [
                f'{each.variant}/{each.seed}' for each, step in steps.items() if 0 < step < length
            ]
            text = ' '.join(['context', *going])
            bars.update(bar, completed=sum(steps.values()), description=text)

        run_together(
            list(jobs),
            repository,
            update,
            at_once,
            threads=1,
            finished=lambda job, usage: jobs[job].finish(usage),
            keep_going=True,
        )


def iterations(repository: Path, cfg: Config) -> int:
    """Iterations of one training: epochs times full batches."""
    loader = cfg.train_dataloader
    images = len(list((repository / cfg.data_root / 'images' / 'train').iterdir()))
    rounding = math.floor if loader.get('drop_last') else math.ceil
    return cfg.train_cfg.max_epochs * rounding(images / loader.batch_size)
