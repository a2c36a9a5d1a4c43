"""Cue accuracy against multiply-adds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from weightformer_mm.utils.writing import written_whole

LABEL_GAP = 0.055  # least distance of two labels, relative to the axis
GUESSING = 0.5


class Point(NamedTuple):
    """A variant: multiply-adds, and cue accuracy with its least and greatest value."""

    name: str
    cost: int
    mean: float
    low: float
    high: float


def draw_plot(points: Sequence[Point], cost_title: str, out: Path) -> None:
    """Write a PNG with one point per variant, its name in a column beside and a line to it.

    Most variants cost nearly the same, so that names at the points themselves would cover each other.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xscale('log')
    low = min([GUESSING, *(point.low for point in points)]) - 0.06
    axes.set_ylim(low, 1.04)
    if points:
        least, most = (choose(point.cost for point in points) for choose in (min, max))
        most = max(most, 40 * least)
        axes.set_xlim(least / 1.4, most * 1.6)
        column = (least * most) ** 0.5
        heights = spread([point.mean for point in points], low, 1.04)
        for index, (point, height) in enumerate(zip(points, heights)):
            _draw_point(axes, point, f'C{index % 10}', (column, height))
    axes.axhline(GUESSING, color='grey', linestyle=':', linewidth=1)
    beside = axes.get_yaxis_transform()  # x of the axes, y of the data
    axes.text(0.99, GUESSING, 'guessing', transform=beside, ha='right', va='bottom', color='grey')
    axes.set_xlabel(cost_title)
    axes.set_ylabel('cue accuracy, mean and range over seeds')
    axes.grid(True, which='major', alpha=0.3)
    with written_whole(out) as partial:
        figure.savefig(partial, format='png', dpi=120)


def _draw_point(axes, point: Point, color: str, label: tuple[float, float]) -> None:
    error = [[point.mean - point.low], [point.high - point.mean]]
    axes.errorbar(point.cost, point.mean, error, fmt='o', color=color, capsize=3, markersize=5)
    side = 1.0 if point.cost > label[0] else 0.0  # of the name, where the line begins
    axes.annotate(
        point.name,
        (point.cost, point.mean),
        label,
        ha='left',
        va='center',
        bbox=dict(facecolor='white', edgecolor='none', pad=1),
        arrowprops=dict(
            arrowstyle='-',
            color=color,
            linewidth=0.7,
            relpos=(side, 0.5),
            shrinkA=1,
            shrinkB=4,
        ),
    )


def spread(values: Sequence[float], low: float, high: float) -> list[float]:
    """Heights for labels near ``values``, in their order and far enough apart, within the axis."""
    gap = min(LABEL_GAP, 1 / (len(values) + 1)) * (high - low)
    order = sorted(range(len(values)), key=lambda index: values[index])
    heights = [0.0] * len(values)
    floor = low + gap / 2
    for index in order:
        heights[index] = floor = max(values[index], floor)
        floor += gap
    ceiling = high - gap / 2
    for index in reversed(order):
        heights[index] = ceiling = min(heights[index], ceiling)
        ceiling -= gap
    return heights
