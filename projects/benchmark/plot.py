"""Time and peak memory against pixels, drawn only from CSV files of results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from weightformer_mm.errors import UserError
from weightformer_mm.utils.writing import make_folder, refuse_replacing, written_whole

from .results import COLUMNS, read_rows

FIT_FROM = 512 * 512
# what must not differ between the points of one picture
_SAME = ('device', 'threads', 'dtype')
_QUANTITIES = {'time': 'milliseconds per image', 'memory': 'peak MiB per image'}

Line = list  # of (pixels, value), by pixels


def plot_results(
    files: Sequence[str], out: str, fit_from: int = FIT_FROM, where: Sequence[str] = ()
) -> None:
    """Write a PNG: a column of panels for each mode, time above, memory below, a line per contender.

    If there are several rows for one contender, mode and size, the last one counts.

    Args:
        files: CSV files.
        out: the PNG.
        fit_from: points from this many pixels on take part in the fit of the slope in the legend.
        where: ``COLUMN=VALUE``, which rows must have.

    Raises:
        UserError: bad input, nothing to draw, or rows that cannot be compared.
    """
    path = Path(out).expanduser()
    if path.suffix != '.png':
        raise UserError(f'--out {out}: expected a name that ends in .png')
    rows = [row for file in files for row in read_rows(Path(file).expanduser())]
    rows = [row for row in _matching(rows, where) if row['median_ms']]
    if not rows:
        raise UserError('no row with a time to draw; look at the files and at --where')
    for column in _SAME:
        values = sorted({row[column] for row in rows})
        if len(values) > 1:
            raise UserError(
                f'rows with several values of {column} ({", ".join(values)}) do not belong in one plot; '
                f"choose with --where '{column}={values[0]}'"
            )
    refuse_replacing('--out', [path], files)
    make_folder(path.parent, '--out')
    _draw(rows, path, fit_from)


def _matching(rows: Sequence[Mapping[str, str]], where: Sequence[str]) -> list[Mapping[str, str]]:
    for condition in where:
        column, equals, value = condition.partition('=')
        if not equals or column not in COLUMNS:
            raise UserError(
                f'--where {condition}: expected COLUMN=VALUE with one of {", ".join(COLUMNS)}'
            )
        rows = [row for row in rows if row[column] == value]
    return list(rows)


def lines_of(rows: Sequence[Mapping[str, str]], mode: str, quantity: str) -> dict[str, Line]:
    """Contender → its points of one mode, ``'time'`` or ``'memory'`` per image."""
    lines: dict[str, dict[int, float]] = {}
    for row in rows:
        if row['mode'] != mode:
            continue
        batch = int(row['batch'])
        value = row['median_ms'] if quantity == 'time' else row['peak_mib']
        if value and float(value) > 0:
            pixels = int(row['height']) * int(row['width'])
            lines.setdefault(row['contender'], {})[pixels] = float(value) / batch
    return {name: sorted(points.items()) for name, points in lines.items()}


def fitted_slope(line: Line, fit_from: int) -> float | None:
    """Exponent of the power law through the points from ``fit_from`` pixels on, by least squares.

    None with fewer than two points.
    """
    points = np.array([point for point in line if point[0] >= fit_from])
    if len(points) < 2:
        return None
    return float(np.polyfit(*np.log(points).T, deg=1)[0])


def _draw(rows: Sequence[Mapping[str, str]], out: Path, fit_from: int) -> None:
    modes = list(dict.fromkeys(row['mode'] for row in rows))
    drawn = {(name, mode): lines_of(rows, mode, name) for name in _QUANTITIES for mode in modes}
    quantities = [name for name in _QUANTITIES if any(drawn[name, mode] for mode in modes)]
    names = list(dict.fromkeys(row['contender'] for row in rows))
    styles = {
        name: dict(color=f'C{index % 10}', marker='osD^v'[index % 5], linestyle='-')
        for index, name in enumerate(names)
    }
    size = (6.5 * len(modes), (3.6 + 0.16 * len(names)) * len(quantities))
    figure = Figure(figsize=size, layout='constrained')
    grid = figure.subplots(len(quantities), len(modes), squeeze=False)
    for panels, quantity in zip(grid, quantities):
        for axes, mode in zip(panels, modes):
            _draw_panel(axes, drawn[quantity, mode], styles, fit_from)
            axes.set_title(f'{mode}: {quantity}')
            axes.set_ylabel(_QUANTITIES[quantity])
    first = rows[0]
    figure.suptitle(f'{first["device"]}, {first["dtype"]}', fontsize='medium')
    with written_whole(out) as partial:
        figure.savefig(partial, format='png', dpi=120)


def _draw_panel(
    axes: Axes, lines: Mapping[str, Line], styles: Mapping[str, dict], fit_from: int
) -> None:
    axes.set_xscale('log')
    axes.set_yscale('log')
    for name, line in lines.items():
        slope = fitted_slope(line, fit_from)
        label = name if slope is None else f'{name}  (slope {slope:.2f})'
        axes.plot(*zip(*line), label=label, markersize=4, linewidth=1.3, **styles[name])
    sizes = {pixels for line in lines.values() for pixels, _ in line}
    # the labels of other sizes would overlap those of squares
    ticks = [pixels for pixels in sorted(sizes) if math.isqrt(pixels) ** 2 == pixels] or [*sizes]
    axes.set_xticks(ticks, map(_pixels, ticks))
    axes.minorticks_off()
    axes.set_xlabel(f'pixels; slopes are fitted from {_pixels(fit_from)} on')
    axes.grid(True, which='major', alpha=0.3)
    if lines:
        below = dict(loc='upper center', bbox_to_anchor=(0.5, -0.18))
        axes.legend(fontsize='small', frameon=False, ncols=2, **below)


def _pixels(count: int) -> str:
    side = math.isqrt(count)
    return f'{side}²' if side**2 == count else f'{count / 1e6:.2g} M'
