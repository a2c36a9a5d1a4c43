"""The records as tables and plots of ``docs/real_pictures.md``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.figure import Figure

from weightformer_mm.datasets.checks.report import quantity
from weightformer_mm.utils.tables import markdown_table
from weightformer_mm.utils.writing import written_whole

from ..model_zoo.make_tables import with_table
from .networks import MAIN, PUBLISHED, STRATEGIES
from .plan import (
    COMPARED,
    METRICS,
    RATES,
    SEEDS,
    SHAPES,
    Run,
    ablations,
    best_rate,
    score,
    scores_of,
    whole_recipes,
)
from .recipes import CHANGES

PAGE = Path('docs/real_pictures.md')
PLOT = Path('docs/images/real_pictures.png')
TITLES = {'camvid': 'CamVid, mIoU', 'nuclei': 'nuclei, mask AP'}
Records = Mapping[str, Mapping[str, Any]]
BEYOND = 'beyond 50%'


def write_report(root: Path, records: Records) -> None:
    """Put the tables into the page and draw the plot.

    Args:
        root: the repository.
        records: by the name of the run.
    """
    text = (root / PAGE).read_text(encoding='utf-8')
    for name, make in TABLES.items():
        text = with_table(text, name, make(records), PAGE)
    with written_whole(root / PAGE) as partial:
        partial.write_text(text, encoding='utf-8')
    if plot_line(records):
        draw_plot(records, root / PLOT)


def whole_table(records: Records) -> str:
    """What the whole recipes reach."""
    head = ['network', 'parameters', 'multiply-adds', 'epochs', 'result', 'with flips and scales']
    rows = []
    for data, title in TITLES.items():
        for run in whole_recipes(data):
            record = records.get(run.name)
            if record is not None:
                shape, multiply_adds = list(record['multiply_adds'].items())[-1]
                name = f'{title.partition(",")[0]}: pyramid {run.protocol}'
                cost = (
                    _parameters(record['parameters']),
                    f'{_multiply_adds(multiply_adds)} at {shape}',
                )
                results = (_result(data, record[kind]) for kind in ('metrics', 'tta_metrics'))
                rows.append([name, *cost, str(record['epochs']), *results])
    return markdown_table(head, rows)


def _result(data: str, metrics: Mapping[str, float]) -> str:
    if data == 'camvid':
        return f'mIoU {metrics["mIoU"] / 100:.3f}'
    precision, at_half = (metrics[f'coco/{n}'] for n in ('nucleus_precision', 'segm_mAP_50'))
    return f'mask AP {precision:.3f}, AP50 {at_half:.3f}'


def network_table(records: Records) -> str:
    """The compared networks: cost of the backbone, and mean and range of the scores over the seeds."""
    head = ['network', 'parameters', 'multiply-adds', 'learning rate']
    head += [*TITLES.values(), *(f'{data}, CPU time of a training' for data in METRICS)]
    rows = []
    for name in COMPARED:
        found = {data: compared(records, data, name) for data in METRICS}
        first = next((runs[0] for runs in found.values() if runs), None)
        parameters = '' if first is None else _parameters(first['backbone_parameters'])
        counts = {k: v for runs in found.values() for k, v in _counts(runs).items()}
        rates = (f'{data} x{runs[0]["rate"]:g}' for data, runs in found.items() if runs)
        rows.append(
            [
                name,
                parameters,
                ', '.join(f'{_multiply_adds(n)} at {shape}' for shape, n in counts.items()),
                ', '.join(rates),
                *(_spread([score(run) for run in runs]) for runs in found.values()),
                *(_minutes(runs) for runs in found.values()),
            ]
        )
    return markdown_table(head, rows)


def _counts(runs: Sequence[Mapping[str, Any]]) -> Mapping[str, int]:
    return runs[0]['backbone_multiply_adds'] if runs else {}


def recipe_table(records: Records) -> str:
    """What each element brought: the recipe's score, and the difference that each change makes."""
    rows = []
    for name in dict.fromkeys(name for table in CHANGES.values() for name in table):
        runs = {data: Run(data, change=name) for data in METRICS if name in CHANGES[data]}
        differences = (_difference(records, runs[data]) if data in runs else '' for data in METRICS)
        rows.append([name, *differences])
    whole = ['the recipe', *(_number(score_of(records, Run(data))) for data in METRICS)]
    return markdown_table(['', *TITLES.values()], [whole, *rows])


def rate_table(records: Records) -> str:
    """The score of each network with each learning rate, as a factor on the recipe's."""
    head = ['network', *(f'{title}, x{rate:g}' for title in TITLES.values() for rate in RATES)]
    rows = []
    for name in COMPARED:
        runs = (Run(data, name, rate) for data in METRICS for rate in RATES)
        rows.append([name, *(_number(score_of(records, run)) for run in runs)])
    return markdown_table(head, rows)


def strategy_table(records: Records) -> str:
    """Every strategy with the learning rate of the published pair, on seed 0."""
    rates = {data: best_rate(data, PUBLISHED, scores_of(records)) for data in METRICS}
    rows = []
    for name in STRATEGIES:
        runs = (None if rate is None else Run(data, name, rate) for data, rate in rates.items())
        rows.append(
            [name, *('' if run is None else _number(score_of(records, run)) for run in runs)]
        )
    return markdown_table(['strategy', *TITLES.values()], rows)


def plot_line(records: Records) -> str:
    """The line that shows the plot; empty as long as no network can be compared."""
    if not any(compared(records, data, name) for data in METRICS for name in COMPARED):
        return ''
    return f'![scores against multiply-adds and processor time](images/{PLOT.name})\n'


def class_table(records: Records) -> str:
    """IoU of each class of CamVid, mean over the seeds."""
    found = {name: compared(records, 'camvid', name) for name in COMPARED}
    found = {
        name: [run['metrics'] for run in runs if run['metrics']] for name, runs in found.items()
    }
    found = {name: metrics for name, metrics in found.items() if metrics}
    names = [name for name in next(iter(found.values()), [{}])[0] if name.startswith('IoU.')]
    rows = []
    for name in names:
        means = (mean(metrics[name] or 0.0 for metrics in runs) / 100 for runs in found.values())
        rows.append([name.partition('.')[2], *(f'{value:.3f}' for value in means)])
    return markdown_table(['class', *found], rows)


def size_table(records: Records) -> str:
    """Scores in several sizes, mean and range over the seeds."""
    found = {(data, name): _explained(records, data, name) for data in METRICS for name in MAIN}
    sizes = list(
        dict.fromkeys(
            (data, size)
            for (data, _), runs in found.items()
            for each in runs
            for size in each['by_size']
        )
    )
    head = ['network', *(f'{TITLES[data]}, {size}' for data, size in sizes)]
    rows = [
        [
            name,
            *(
                _range([each['by_size'][size] for each in found[data, name]])
                for data, size in sizes
            ),
        ]
        for name in MAIN
    ]
    return markdown_table(head, rows)


def context_table(records: Records) -> str:
    """How far the networks see, and what is left of the published pair when its predictions are frozen."""
    head = ['', *TITLES.values()]
    rows = []
    for name in MAIN:
        cells = [
            _range([each['receptive_field'][BEYOND] for each in _explained(records, data, name)])
            for data in METRICS
        ]
        rows.append([f'{name}: energy {BEYOND} of the sides', *cells])
    pair = [_explained(records, data, PUBLISHED) for data in METRICS]
    for kind in ('linear', 'convolution'):
        cells = [_range([each['variation'][kind] for each in runs]) for runs in pair]
        rows.append([f'published: variation of {kind} parameters', *cells])
    rows.append(
        [
            'published: score',
            *(
                _range([score(run) for run in compared(records, data, PUBLISHED)])
                for data in METRICS
            ),
        ]
    )
    rows.append(
        [
            'published: score, parameters frozen',
            *(_range([each['frozen'] for each in runs]) for runs in pair),
        ]
    )
    return markdown_table(head, rows)


TABLES: dict[str, Callable[[Records], str]] = {
    'whole': whole_table,
    'networks': network_table,
    'plot': plot_line,
    'classes': class_table,
    'sizes': size_table,
    'context': context_table,
    'strategies': strategy_table,
    'recipe': recipe_table,
    'rates': rate_table,
}


def compared(records: Records, data: str, network: str) -> list[Mapping[str, Any]]:
    """The records of a network at its best learning rate, one for each seed; none while it is searched."""
    rate = best_rate(data, network, scores_of(records))
    if rate is None:
        return []
    runs = [Run(data, network, rate, seed=seed) for seed in SEEDS]
    return [records[run.name] for run in runs if run.name in records]


def _explained(records: Records, data: str, network: str) -> list[Mapping[str, Any]]:
    """What was measured on the compared weights; empty before that."""
    return [run['explained'] for run in compared(records, data, network) if 'explained' in run]


def score_of(records: Records, run: Run) -> float | None:
    """The score of a run; None if there is no record."""
    return score(records[run.name]) if run.name in records else None


def _difference(records: Records, run: Run) -> str:
    changed, recipe = score_of(records, run), score_of(records, ablations(run.data)[0])
    if changed is None or recipe is None:
        return ''
    return f'{changed:.3f} ({changed - recipe:+.3f})'


def _number(value: float | None) -> str:
    return '' if value is None else f'{value:.3f}'


def _parameters(count: int) -> str:
    return f'{count / 1e6:.2f} M'


def _multiply_adds(count: int) -> str:
    return f'{count / 1e9:.2f} G'


def _minutes(runs: Sequence[Mapping[str, Any]]) -> str:
    times = _times(runs)
    return f'{mean(times):.0f} min' if times else ''


def _times(runs: Sequence[Mapping[str, Any]]) -> list[float]:
    """Minutes of processor time of the trainings that came to their end."""
    return [run['cpu_seconds'] / 60 for run in runs if 'cpu_seconds' in run]


def _range(values: Sequence[float], end: str = '') -> str:
    if not values:
        return ''
    return f'{mean(values):.3f} ({min(values):.3f} to {max(values):.3f}{end})'


def _spread(values: Sequence[float]) -> str:
    return _range(values, f', {quantity(len(values), "seed")}')


def draw_plot(records: Records, out: Path) -> None:
    """Write a PNG: for each data set, the scores against multiply-adds and against processor time."""
    figure = Figure(figsize=(10, 8), layout='constrained')
    for row, (data, axes) in enumerate(zip(METRICS, figure.subplots(2, 2, sharey='row'))):
        for index, name in enumerate(COMPARED):
            runs = compared(records, data, name)
            costs = [count / 1e9 for count in list(_counts(runs).values())[:1]], _times(runs)
            for column, cost in enumerate(costs):
                if cost:
                    values = [score(run) for run in runs]
                    error = [[mean(values) - min(values)], [max(values) - mean(values)]]
                    style = dict(fmt='osD^v<'[index], color=f'C{index}', capsize=3)
                    label = name if (row, column) == (0, 0) else None
                    axes[column].errorbar(mean(cost), mean(values), error, label=label, **style)
        height, width = SHAPES[data][0]
        axes[0].set_xlabel(f'multiply-adds of the backbone at {height}x{width}, G')
        axes[1].set_xlabel('processor time of a training, minutes')
        axes[0].set_ylabel(f'{TITLES[data]}, mean and range')
        for each in axes:
            each.grid(alpha=0.3)
    figure.legend(loc='outside upper center', ncols=6)
    with written_whole(out) as partial:
        figure.savefig(partial, format='png', dpi=120)
