"""The table and the plot of what each variant reached."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mmengine.config import Config

from weightformer_mm.utils.writing import written_whole

from .cost import SIDES, Cost, backbone_cost
from .plot import Point, draw_plot
from .runs import METRICS, ContextRun, TaskSet

TITLES = (
    'variant',
    'dynamic_linear',
    'dynamic_conv',
    'cue accuracy',
    'mIoU',
    'found',
    'parameters',
    *(f'multiply-adds at {side}²' for side in SIDES),
    'CPU time of a training',
    'seeds',
)


@dataclass(frozen=True)
class Row:
    """A variant: of each metric the values by seed as fractions (None: not a number), and its costs.

    ``cpu_seconds`` is a mean over the trainings.
    """

    variant: str
    backbone: dict[str, str]
    seeds: list[int]
    metrics: dict[str, list[float | None]]
    cost: Cost
    cpu_seconds: float


def write_report(
    task: TaskSet,
    runs: Sequence[ContextRun],
    chosen: dict[str, dict[str, str]],
    out: Path,
    docs: Path | None = None,
) -> str:
    """Write ``table.md``, ``table.json`` and ``plot.png`` to ``out``; return the table.

    Args:
        task: what was trained.
        runs: those that are done.
        chosen: the variants, in the order of the table.
        out: the folder.
        docs: folder that gets ``<name>_table.md`` and ``images/<name>.png`` as well.
    """
    cfg = runs[0].load_config()
    rows = [
        make_row(name, backbone, [run for run in runs if run.variant == name])
        for name, backbone in chosen.items()
        if any(run.variant == name for run in runs)
    ]
    table = format_table(rows)
    text = f'{introduction(task, cfg)}\n\n{table}\n'
    content = {'set': task.name, 'config': task.config, 'rows': [asdict(row) for row in rows]}
    _write(out / 'table.md', text)
    _write(out / 'table.json', json.dumps(content, indent=2) + '\n')
    draw_plot(points(rows), f'multiply-adds of the backbone at {SIDES[-1]}²', out / 'plot.png')
    if docs is not None:
        (docs / 'images').mkdir(parents=True, exist_ok=True)
        _write(docs / f'{task.name}_table.md', text)
        with written_whole(docs / 'images' / f'{task.name}.png') as partial:
            shutil.copyfile(out / 'plot.png', partial)
    return table


def make_row(variant: str, backbone: dict[str, str], runs: Sequence[ContextRun]) -> Row:
    states = sorted((run.read_state() for run in runs), key=lambda state: state['seed'])
    metrics = {name: [_fraction(state['metrics'][name]) for state in states] for name in METRICS}
    cost = backbone_cost(runs[0].load_config().model.backbone.to_dict())
    seconds = sum(state['cpu_seconds'] for state in states) / len(states)
    return Row(variant, backbone, [state['seed'] for state in states], metrics, cost, seconds)


def _fraction(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


def introduction(task: TaskSet, cfg: Config) -> str:
    """What was measured, for a reader of the table alone."""
    backbone = cfg.model.backbone
    text = (
        f'ContextShapes with {task.title} as the cue: `{backbone.type}`, `arch={backbone.arch!r}`, '
        f'`out_indices={tuple(backbone.out_indices)}`, {cfg.train_cfg.max_epochs} epochs with batches '
        f'of {cfg.train_dataloader.batch_size}, the same schedule for all, on what '
        f'`{cfg.prepare_data}` makes. Mean (least to greatest) over the seeds. Cue accuracy: share of '
        'the correctly found object pixels whose cue is right; guessing gives about 0.5. Found: share '
        'of the object pixels whose shape is right. Parameters and multiply-adds are of the backbone; '
        'the time is of the processor, with one thread. '
        f'Written by `python tools/context.py{task.options} --docs docs`.'
    )
    return textwrap.fill(text, 110, break_long_words=False, break_on_hyphens=False)


def format_table(rows: Sequence[Row]) -> str:
    """The rows as Markdown, in columns of equal width."""
    cells = [list(TITLES), *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(TITLES))]
    lines = [
        '| ' + ' | '.join(cell.ljust(width) for cell, width in zip(line, widths)) + ' |'
        for line in cells
    ]
    rule = '|' + '|'.join('-' * (width + 2) for width in widths) + '|'
    return '\n'.join([lines[0], rule, *lines[1:]])


def _cells(row: Row) -> list[str]:
    return [
        row.variant,
        row.backbone.get('dynamic_linear', '–'),
        row.backbone.get('dynamic_conv', '–'),
        *(_spread(row.metrics[name]) for name in ('cue_accuracy', 'mIoU', 'found')),
        f'{row.cost.parameters / 1e3:.0f} k',
        *(_amount(row.cost.multiply_adds[side]) for side in SIDES),
        f'{row.cpu_seconds:.0f} s',
        ', '.join(map(str, row.seeds)),
    ]


def _spread(values: Sequence[float | None]) -> str:
    if None in values:
        return 'none found'
    return f'{sum(values) / len(values):.3f} ({min(values):.3f} to {max(values):.3f})'


def _amount(count: int) -> str:
    return f'{count / 1e9:.1f} G' if count >= 1e9 else f'{count / 1e6:.0f} M'


def points(rows: Sequence[Row]) -> list[Point]:
    """Cue accuracy against cost, of the variants that have one."""
    return [
        Point(
            row.variant,
            row.cost.multiply_adds[SIDES[-1]],
            sum(values) / len(values),
            min(values),
            max(values),
        )
        for row in rows
        for values in [row.metrics['cue_accuracy']]
        if None not in values
    ]


def _write(path: Path, text: str) -> None:
    with written_whole(path) as partial:
        partial.write_text(text, encoding='utf-8')
