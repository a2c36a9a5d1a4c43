"""The steps of the demo, each skipped if its result is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import Progress, TextColumn

from weightformer_mm.apis.convert import Conversion, convert_checkpoint
from weightformer_mm.checkpoints.sources import WEIGHTS
from weightformer_mm.utils.tables import text_table
from weightformer_mm.visualization.contact_sheet import write_contact_sheet

from ..runs import Job, Usage, newest_of, newest_scalars, run_together
from .report import write_report
from .tasks import TASKS, TaskFolder, short_path

SHEET_IMAGES = 8
SHEET_COLUMNS = 2
PICTURES = Path('projects', 'demo', 'pictures')
_DATA = Path('data', 'shapes')


def run_demo(repository: Path, out: Path, force: bool = False, full: bool = False) -> str:
    """Draw what the weights that ship see, train and evaluate both models, write the page; return the table.

    After an interruption, the next run continues from the last epoch.

    Args:
        repository: folder with ``configs`` and ``tools``; the data goes to its ``data/shapes``.
        out: folder of checkpoints, logs and pictures.
        force: start over.
        full: train by the schedules of the recipes, which takes longer.

    Raises:
        RunFailed: a step failed.
        UserError: ``out`` holds something that the demo did not write.
    """
    start = time.monotonic()
    first = _begin(repository, out, force)
    folders = _folders(repository, out, full)
    for folder in folders:
        folder.claim(folder.digest(), 'the demo', force)
    left = [folder for folder in folders if not folder.sheet.is_file()]
    if left:
        names = ', '.join(folder.task.name for folder in left)
        print(f'training, then evaluating: {names}', flush=True)
        _train_and_evaluate(repository, left)
        for folder in left:
            _draw(folder)
    page = write_report(folders, first, out / 'report.html')
    minutes = (time.monotonic() - start) / 60
    return (
        f'\n{format_table(folders)}\n\nthis run: {minutes:.1f} min; all of it on one page: {page}'
    )


def ship(repository: Path, out: Path) -> list[Path]:
    """Put the weights of a full run in ``out`` beside their recipes, as float16; return the files."""
    return [
        convert_checkpoint(
            str(folder.checkpoint()),
            folder.config.with_suffix(WEIGHTS),
            Conversion(half=True),
            force=True,
        )
        for folder in _folders(repository, out, full=True)
    ]


def _folders(repository: Path, out: Path, full: bool) -> list[TaskFolder]:
    configs = [repository / (task.recipe if full else task.short) for task in TASKS]
    data = repository / _DATA
    return [TaskFolder(t, path, out / t.name, data) for t, path in zip(TASKS, configs)]


def _begin(repository: Path, out: Path, force: bool) -> list[Path]:
    """Generate the data, and draw sheets of what the weights that ship see in pictures that ship."""
    data = repository / _DATA
    arguments = [str(repository / 'tools' / 'make_shapes.py'), '--out', str(data)]
    jobs = [Job(arguments + ['--force'] * force, out / 'make_shapes.log')]
    images = sorted((repository / PICTURES).glob('*.png'))
    shipped = [task for task in TASKS if (repository / task.recipe).with_suffix(WEIGHTS).is_file()]
    sheets = [out / 'first' / f'{task.name}.png' for task in shipped]
    for task, sheet in zip(shipped, sheets):
        if not sheet.is_file():
            name = ['--weights', Path(task.recipe).stem, '--score-thr', '0.5']
            where = [str(repository / PICTURES), '--out', str(out / 'first' / task.name)]
            tool = str(repository / 'tools' / 'infer.py')
            jobs.append(Job([tool, *name, *where], out / 'first' / f'{task.name}.log'))
    print(f'data: {data}', flush=True)
    run_together(jobs, repository)
    for task, sheet in zip(shipped, sheets):
        if not sheet.is_file():
            pictures = [out / 'first' / task.name / image.name for image in images]
            make_sheet(images, pictures, sheet, ('image', 'prediction'))
            print(f'what the weights that ship see: {sheet}', flush=True)
    return sheets


def format_table(folders: list[TaskFolder]) -> str:
    """One row per metric: its value, the minutes of training, and where everything lies."""
    rows = [
        (
            folder.task.name,
            title,
            f'{value:.3f}',
            f'{folder.read_state()["train_seconds"] / 60:.1f} min',
            short_path(folder.checkpoint()),
            short_path(folder.sheet),
        )
        for folder in folders
        for title, value in folder.metric_values().items()
    ]
    return text_table(('task', 'metric', 'value', 'training', 'checkpoint', 'sheet'), rows)


def _train_and_evaluate(repository: Path, folders: list[TaskFolder]) -> None:
    """Evaluate each as soon as its training ends, beside the trainings that are left."""
    trainings = {_training(repository, folder): folder for folder in folders}
    start = time.monotonic()

    def finished(job: Job, usage: Usage) -> Job | None:
        folder = trainings.pop(job, None)
        if folder is None:
            return None
        folder.add_seconds(usage.seconds)
        return _test(repository, folder)

    with _bars() as bars:
        update = _watch(bars, folders)
        try:
            run_together(list(trainings), repository, update, finished=finished)
        finally:
            for folder in trainings.values():  # interrupted
                folder.add_seconds(time.monotonic() - start)


def _bars() -> Progress:
    shown = 'loss {task.fields[loss]}  {task.fields[title]} {task.fields[metric]}'
    columns = (*Progress.get_default_columns(), TextColumn(shown))
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _watch(bars: Progress, folders: list[TaskFolder]) -> Callable[[], None]:
    """Add a bar per task; return what brings them up to date."""
    tasks = [
        bars.add_task(
            folder.task.name,
            total=folder.total_iterations(),
            loss='-',
            title=folder.task.main_metric[0],
            metric='-',
        )
        for folder in folders
    ]

    def update() -> None:
        for task, folder in zip(tasks, folders):
            lines = newest_scalars(folder.root)
            if (newest := newest_of(lines, 'loss')) is not None:
                bars.update(task, completed=newest['step'], loss=f'{newest["loss"]:.3f}')
            _, name, factor = folder.task.main_metric
            if (newest := newest_of(lines, name)) is not None:
                bars.update(task, metric=f'{newest[name] * factor:.3f}')

    return update


def _draw(folder: TaskFolder) -> None:
    images = sorted((folder.data / 'images' / 'val').iterdir())[:SHEET_IMAGES]
    make_sheet(images, [folder.pictures / image.name for image in images], folder.sheet)


def make_sheet(
    images: list[Path],
    pictures: list[Path],
    out: Path,
    parts: Sequence[str] = ('image', 'truth', 'prediction'),
) -> None:
    """Write a sheet with ``image | truth | prediction`` for each image.

    Args:
        images: the images as the model sees them, all of one size.
        pictures: for each image the visualizer's ``truth | prediction``, side by side.
        out: the PNG to write.
        parts: what each row shows; the image, then what is side by side in its picture.
    """
    groups = []
    for image, picture in zip(images, pictures):
        shown = [cv2.imread(str(path))[..., ::-1] for path in (image, picture)]
        groups.append([shown[0], *np.hsplit(shown[1], len(parts) - 1)])
    captions = [f'{image.name}: {", ".join(parts)}' for image in images]
    write_contact_sheet(groups, captions, out, SHEET_COLUMNS, side=max(groups[0][0].shape))


def _training(repository: Path, folder: TaskFolder) -> Job:
    tool = str(repository / 'tools' / 'train.py')
    arguments = [tool, str(folder.config), '--work-dir', str(folder.root), '--resume']
    logging = ['--cfg-options', 'default_hooks.logger.interval=10']
    return Job((*arguments, *logging), folder.train_log)


def _test(repository: Path, folder: TaskFolder) -> Job:
    tool, work_dir = str(repository / 'tools' / 'test.py'), str(folder.root / 'test')
    arguments = [tool, str(folder.config), str(folder.checkpoint()), '--work-dir', work_dir]
    outputs = ['--out', str(folder.results), '--show-dir', str(folder.pictures)]
    return Job((*arguments, *outputs, '--score-thr', '0.5'), folder.test_log)
