"""The records as tables and plots of ``docs/real_pictures.md``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.figure import Figure

from weightformer_mm.utils.tables import markdown_table
from weightformer_mm.utils.writing import written_whole

from ..model_zoo.make_tables import with_table
from .networks import MAIN, PEERS, PUBLISHED, STRATEGIES
from .plan import METRICS, RATES, SEEDS, Run, ablations, best_rate, recipes
from .recipes import ABLATIONS

PAGE = Path('docs/real_pictures.md')
PLOT = Path('docs/images/real_pictures.png')
TITLES = {'camvid': 'CamVid, mIoU', 'nuclei': 'nuclei, mask AP'}
Records = Mapping[str, Mapping[str, Any]]


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
    """The whole recipes, and what others published."""
    head = ['network', 'parameters', 'multiply-adds', 'epochs', 'result', 'with flips and scales']
    rows = []
    for data, title in TITLES.items():
        for run in recipes(data):
            record = records.get(run.name)
            if record is not None:
                metrics = [_result(data, record[kind]) for kind in ('metrics', 'tta_metrics')]
                name = f'{title.partition(",")[0]}: pyramid {run.protocol}, {record["shape"]}'
                cost = (
                    f'{record["parameters"] / 1e6:.1f} M',
                    f'{record["multiply_adds"] / 1e9:.1f} G',
                )
                rows.append([name, *cost, str(record['epochs']), *metrics])
    return markdown_table(head, rows)


def _result(data: str, metrics: Mapping[str, float]) -> str:
    if data == 'camvid':
        return f'mIoU {metrics["mIoU"] / 100:.3f}'
    precision, at_half = (metrics[f'coco/{n}'] for n in ('nucleus_precision', 'segm_mAP_50'))
    return f'mask AP {precision:.3f}, AP50 {at_half:.3f}'


def recipe_table(records: Records) -> str:
    """What each element brought: the recipe's score, and the difference that each change makes."""
    rows = []
    for name in dict.fromkeys(name for table in ABLATIONS.values() for name in table):
        runs = {data: Run(data, recipe=name) for data in METRICS if name in ABLATIONS[data]}
        rows.append(
            [
                name,
                *(_difference(records, runs[data]) if data in runs else '' for data in METRICS),
            ]
        )
    whole = ['the recipe', *(_number(score(records, Run(data))) for data in METRICS)]
    return markdown_table(['', *TITLES.values()], [whole, *rows])


def rate_table(records: Records) -> str:
    """The score of each network with each learning rate, as a factor on the recipe's."""
    head = ['network', *(f'{title}, x{rate:g}' for title in TITLES.values() for rate in RATES)]
    rows = [
        [
            name,
            *(_number(score(records, Run(data, name, rate))) for data in METRICS for rate in RATES),
        ]
        for name in SEEDS
    ]
    return markdown_table(head, rows)


def network_table(records: Records) -> str:
    """The compared networks: cost of the backbone, and mean and range of the scores over the seeds."""
    head = ['network', 'parameters', *(_cost_title(data) for data in METRICS)]
    head += [*TITLES.values(), *(f'{data}, CPU time of a training' for data in METRICS)]
    rows = []
    for name in SEEDS:
        found = {data: compared(records, data, name) for data in METRICS}
        rows.append(
            [
                name,
                _of_first(found.values(), lambda r: f'{r["backbone_parameters"] / 1e6:.2f} M'),
                *(
                    _of_first([runs], lambda r: f'{r["backbone_multiply_adds"] / 1e9:.2f} G')
                    for runs in found.values()
                ),
                *(_spread(data, runs) for data, runs in found.items()),
                *(
                    f'{mean(r["cpu_seconds"] for r in runs) / 60:.0f} min' if runs else ''
                    for runs in found.values()
                ),
            ]
        )
    return markdown_table(head, rows)


def strategy_table(records: Records) -> str:
    """Every strategy with the learning rate of the published pair, on seed 0."""
    scores = {name: _score(record) for name, record in records.items()}
    rates = {data: best_rate(data, PUBLISHED, scores) for data in METRICS}
    rows = [
        [
            name,
            *(
                '' if rate is None else _number(score(records, Run(data, name, rate)))
                for data, rate in rates.items()
            ),
        ]
        for name in STRATEGIES
    ]
    return markdown_table(['strategy', *TITLES.values()], rows)


def plot_line(records: Records) -> str:
    """The line that shows the plot; empty as long as no network can be compared."""
    if not any(compared(records, data, name) for data in METRICS for name in SEEDS):
        return ''
    return f'![scores against multiply-adds and processor time](images/{PLOT.name})\n'


def class_table(records: Records) -> str:
    """IoU of each class of CamVid, mean over the seeds."""
    found = {name: compared(records, 'camvid', name) for name in SEEDS}
    found = {name: runs for name, runs in found.items() if runs}
    first = next(iter(found.values()), None)
    metrics = [] if first is None else [m for m in first[0]['metrics'] if m.startswith('IoU.')]
    rows = [
        [
            metric.partition('.')[2],
            *(f'{mean(r["metrics"][metric] for r in runs) / 100:.3f}' for runs in found.values()),
        ]
        for metric in metrics
    ]
    return markdown_table(['class', *found], rows)


TABLES: dict[str, Callable[[Records], str]] = {
    'whole': whole_table,
    'networks': network_table,
    'plot': plot_line,
    'classes': class_table,
    'strategies': strategy_table,
    'recipe': recipe_table,
    'rates': rate_table,
}


def compared(records: Records, data: str, network: str) -> list[Mapping[str, Any]]:
    """The records of a network at its best learning rate, one for each seed; none while it is searched."""
    rate = best_rate(data, network, {name: _score(record) for name, record in records.items()})
    if rate is None:
        return []
    runs = [Run(data, network, rate, seed=seed) for seed in range(SEEDS[network])]
    return [records[run.name] for run in runs if run.name in records]


def score(records: Records, run: Run) -> float | None:
    """The deciding metric of a run, from 0 to 1; None if there is no record."""
    record = records.get(run.name)
    return None if record is None else _score(record)


def _score(record: Mapping[str, Any]) -> float:
    value = record['metrics'][METRICS[record['data']]]
    return value / 100 if record['data'] == 'camvid' else value


def _difference(records: Records, run: Run) -> str:
    values = score(records, run), score(records, ablations(run.data)[0])
    return '' if None in values else f'{values[0]:.3f} ({values[0] - values[1]:+.3f})'


def _number(value: float | None) -> str:
    return '' if value is None else f'{value:.3f}'


def _spread(data: str, runs: Sequence[Mapping[str, Any]]) -> str:
    if not runs:
        return ''
    values = [_score(run) for run in runs]
    return f'{mean(values):.3f} ({min(values):.3f} to {max(values):.3f}, {len(values)} seeds)'


def _of_first(
    groups: Iterable[Sequence[Mapping[str, Any]]], show: Callable[[Mapping[str, Any]], str]
) -> str:
    return next((show(runs[0]) for runs in groups if runs), '')


def _cost_title(data: str) -> str:
    return {'camvid': 'multiply-adds at 360x480', 'nuclei': 'at 256x256'}[data]


def draw_plot(records: Records, out: Path) -> None:
    """Write a PNG: for each data set, the scores against multiply-adds and against processor time."""
    figure = Figure(figsize=(10, 8), layout='constrained')
    costs = {
        'multiply-adds of the backbone, G': lambda r: r['backbone_multiply_adds'] / 1e9,
        'processor time of a training, minutes': lambda r: r['cpu_seconds'] / 60,
    }
    for row, (axes_of_data, data) in enumerate(zip(figure.subplots(2, 2, sharey='row'), METRICS)):
        for axes, (title, cost) in zip(axes_of_data, costs.items()):
            for index, name in enumerate((*MAIN, *PEERS)):
                runs = compared(records, data, name)
                if not runs:
                    continue
                values = [_score(run) for run in runs]
                error = [[mean(values) - min(values)], [max(values) - mean(values)]]
                axes.errorbar(
                    mean(map(cost, runs)),
                    mean(values),
                    error,
                    fmt='osD^v<'[index],
                    color=f'C{index}',
                    capsize=3,
                    label=None if row or title != next(iter(costs)) else name,
                )
            axes.set_xlabel(title)
            axes.grid(alpha=0.3)
        axes_of_data[0].set_ylabel(f'{TITLES[data]}, mean and range')
    figure.legend(loc='outside upper center', ncols=6)
    with written_whole(out) as partial:
        figure.savefig(partial, format='png', dpi=120)
