"""What each variant reached: the table, the same as JSON, and the plot."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.registry import MODELS

from weightformer_mm.analysis.complexity import measure
from weightformer_mm.utils.tables import markdown_table
from weightformer_mm.utils.writing import written_whole

from .training import METRICS, TaskSet, Training

SIDES = (256, 2048)  # of the images, in pixels, at which a backbone is counted
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
    """A variant.

    Attributes:
        metrics: the values of each metric by seed, as fractions; None: not a number.
        parameters: of the backbone.
        multiply_adds: of the backbone on one image, by the side of the image in pixels.
        cpu_seconds: mean over the trainings.
    """

    variant: str
    backbone: dict[str, str]
    seeds: list[int]
    metrics: dict[str, list[float | None]]
    parameters: int
    multiply_adds: dict[int, int]
    cpu_seconds: float


def write_outcome(
    task: TaskSet,
    trainings: Sequence[Training],
    variants: dict[str, dict[str, str]],
    out: Path,
    docs: Path | None = None,
) -> str:
    """Write ``table.md``, ``table.json`` and ``plot.png`` to ``out``; return the table.

    Args:
        task: what was trained.
        trainings: those that are done.
        variants: arguments of the backbone by name, in the order of the table.
        out: the folder.
        docs: folder that gets ``<name>_table.md`` and ``images/<name>.png`` as well.
    """
    of_variant = {name: [each for each in trainings if each.variant == name] for name in variants}
    rows = [make_row(name, variants[name], found) for name, found in of_variant.items() if found]
    table = format_table(rows)
    text = f'{introduction(task, trainings[0].load_config())}\n\n{table}\n'
    content = {'set': task.name, 'config': task.config, 'rows': [asdict(row) for row in rows]}
    _write(out / 'table.md', text)
    _write(out / 'table.json', json.dumps(content, indent=2) + '\n')
    draw_plot(rows, out / 'plot.png')
    if docs is not None:
        (docs / 'images').mkdir(parents=True, exist_ok=True)
        _write(docs / f'{task.name}_table.md', text)
        with written_whole(docs / 'images' / f'{task.name}.png') as partial:
            shutil.copyfile(out / 'plot.png', partial)
    return table


def make_row(variant: str, backbone: dict[str, str], trainings: Sequence[Training]) -> Row:
    states = sorted((each.read_state() for each in trainings), key=lambda state: state['seed'])
    metrics = {name: [_fraction(state['metrics'][name]) for state in states] for name in METRICS}
    cost = backbone_cost(trainings[0].load_config().model.backbone.to_dict())
    seconds = sum(state['cpu_seconds'] for state in states) / len(states)
    return Row(variant, backbone, [state['seed'] for state in states], metrics, *cost, seconds)


def backbone_cost(backbone: dict[str, Any]) -> tuple[int, dict[int, int]]:
    """Parameters of a backbone, by its config, and its multiply-adds by the side of the image."""
    model = MODELS.build({**backbone, 'init_cfg': None})
    totals = {side: measure(model, (side, side)).total for side in SIDES}
    multiply_adds = {side: total.multiply_adds for side, total in totals.items()}
    return totals[SIDES[0]].parameters, multiply_adds


def _fraction(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


def introduction(task: TaskSet, cfg: Config) -> str:
    """What was measured, for a reader who sees only the table."""
    backbone = cfg.model.backbone
    text = (
        f'ContextShapes with {task.title} as the cue: `{backbone.type}`, `arch={backbone.arch!r}`, '
        f'`out_indices={tuple(backbone.out_indices)}`, {cfg.train_cfg.max_epochs} epochs with batches '
        f'of {cfg.train_dataloader.batch_size}, the same schedule for all, on the data that '
        f'`{cfg.prepare_data}` makes. Mean (least to greatest) over the seeds. Cue accuracy: share of '
        'the correctly found object pixels whose cue is right; guessing gives about 0.5. Found: share '
        'of the object pixels whose shape is right. Parameters and multiply-adds are those of the backbone; '
        'the time is processor time with one thread. '
        f'Written by `python tools/context.py{task.options} --docs docs`.'
    )
    return textwrap.fill(text, 110, break_long_words=False, break_on_hyphens=False)


def format_table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    return markdown_table(TITLES, map(_cells, rows)).rstrip()


def _cells(row: Row) -> list[str]:
    return [
        row.variant,
        row.backbone.get('dynamic_linear', '–'),
        row.backbone.get('dynamic_conv', '–'),
        *(_spread(row.metrics[name]) for name in ('cue_accuracy', 'mIoU', 'found')),
        f'{row.parameters / 1e3:.0f} k',
        *(_amount(row.multiply_adds[side]) for side in SIDES),
        f'{row.cpu_seconds:.0f} s',
        ', '.join(map(str, row.seeds)),
    ]


def _spread(values: Sequence[float | None]) -> str:
    if None in values:
        return 'none found'
    return f'{sum(values) / len(values):.3f} ({min(values):.3f} to {max(values):.3f})'


def _amount(count: int) -> str:
    return f'{count / 1e9:.1f} G' if count >= 1e9 else f'{count / 1e6:.0f} M'


def draw_plot(rows: Sequence[Row], out: Path) -> None:
    """Write a PNG: cue accuracy against multiply-adds, a point for each variant that has both."""
    figure = Figure(figsize=(8, 5), layout='constrained')
    axes = figure.add_subplot()
    for index, row in enumerate(rows):
        cues = row.metrics['cue_accuracy']
        if None not in cues:
            mean = sum(cues) / len(cues)
            error = [[mean - min(cues)], [max(cues) - mean]]
            style = dict(fmt='osD^v'[index % 5], color=f'C{index % 10}', capsize=3, markersize=5)
            cost = row.multiply_adds[SIDES[-1]]
            axes.errorbar(cost, mean, error, label=row.variant, **style)
    axes.axhline(0.5, color='grey', linestyle=':', linewidth=1, label='guessing')
    axes.set_xscale('log')
    axes.set_xlabel(f'multiply-adds of the backbone at {SIDES[-1]}²')
    axes.set_ylabel('cue accuracy, mean and range over seeds')
    axes.grid(True, which='major', alpha=0.3)
    figure.legend(loc='outside right upper', fontsize='small')
    with written_whole(out) as partial:
        figure.savefig(partial, format='png', dpi=120)


def _write(path: Path, text: str) -> None:
    with written_whole(path) as partial:
        partial.write_text(text, encoding='utf-8')
