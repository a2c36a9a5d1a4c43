"""The steps of the demo, each skipped where its result is there."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ..runs.jobs import Job, run_together
from .progress import TrainingBar
from .report import format_table
from .sheet import make_sheet
from .tasks import TASKS, TaskFolder

SHEET_IMAGES = 8


def run_demo(repository: Path, out: Path, force: bool = False) -> str:
    """Generate the data, train and evaluate both models, draw the sheets; return the table.

    Interrupted, it goes on from the last epoch when run again.

    Args:
        repository: folder with ``configs`` and ``tools``; the data lies in its ``data/shapes``.
        out: folder of checkpoints, logs and pictures.
        force: make everything anew.

    Raises:
        RunFailed: a step failed.
        UserError: ``out`` holds something that the demo did not write.
    """
    start = time.monotonic()
    data = repository / 'data' / 'shapes'
    _make_data(repository, data, out, force)
    folders = [TaskFolder(task, repository / task.config, out / task.name, data) for task in TASKS]
    for folder in folders:
        _discard_outdated(folder, force)
    for step, does in ((_train, 'training'), (_evaluate, 'evaluating'), (_draw, 'drawing')):
        left = [folder for folder in folders if not _done(step, folder)]
        if left:
            print(f'{does}: {", ".join(folder.task.name for folder in left)}', flush=True)
            step(repository, left)
    minutes = (time.monotonic() - start) / 60
    return f'\n{format_table(folders)}\n\nthis run: {minutes:.1f} min; everything lies in {out}'


def _done(step: Callable, folder: TaskFolder) -> bool:
    return (folder.sheet if step is _draw else folder.metrics).is_file()


def _make_data(repository: Path, data: Path, out: Path, force: bool) -> None:
    print(f'data: {data}', flush=True)
    arguments = [str(repository / 'tools' / 'make_shapes.py'), '--out', str(data)]
    run_together([Job(arguments + ['--force'] * force, out / 'make_shapes.log')], repository)


def _discard_outdated(folder: TaskFolder, force: bool) -> None:
    """Remove results of another config or other data, but nothing that the demo did not write."""
    folder.claim(folder.digest(), 'the demo', force)


def _train(repository: Path, folders: list[TaskFolder]) -> None:
    tool = str(repository / 'tools' / 'train.py')
    logging = ['--cfg-options', 'default_hooks.logger.interval=10']
    jobs = [
        Job(
            [tool, str(folder.config), '--work-dir', str(folder.root), '--resume', *logging],
            folder.train_log,
        )
        for folder in folders
    ]
    bars = [TrainingBar(folder, position) for position, folder in enumerate(folders)]
    start = time.monotonic()
    try:
        run_together(jobs, repository, watch=lambda: [bar.update() for bar in bars])
    finally:
        for bar, folder in zip(bars, folders):
            bar.close()
            folder.add_seconds(time.monotonic() - start)


def _evaluate(repository: Path, folders: list[TaskFolder]) -> None:
    run_together(
        [_test(repository, folder, '--out', folder.results) for folder in folders], repository
    )


def _draw(repository: Path, folders: list[TaskFolder]) -> None:
    first = (
        '--score-thr',
        '0.5',
        '--cfg-options',
        f'test_dataloader.dataset.indices={SHEET_IMAGES}',
    )
    run_together(
        [_test(repository, folder, '--show-dir', folder.pictures, *first) for folder in folders],
        repository,
    )
    for folder in folders:
        images = sorted((folder.data / 'images' / 'val').iterdir())[:SHEET_IMAGES]
        make_sheet(images, [folder.pictures / image.name for image in images], folder.sheet)


def _test(repository: Path, folder: TaskFolder, option: str, place: Path, *options: str) -> Job:
    tool, work_dir = str(repository / 'tools' / 'test.py'), str(folder.root / 'test')
    arguments = [tool, str(folder.config), str(folder.checkpoint()), '--work-dir', work_dir]
    return Job([*arguments, option, str(place), *options], folder.test_log)
