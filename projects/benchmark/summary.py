"""Rows as a table for the terminal."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

_COLUMNS = {
    'contender': 'contender',
    'mode': 'mode',
    'batch': 'batch',
    'median_ms': 'ms',
    'p20_ms': 'p20',
    'p80_ms': 'p80',
    'images_per_s': 'images/s',
    'speed_ratio': 'speed ratio',
    'peak_mib': 'peak MiB',
    'tera_multiply_adds_per_s': 'TMA/s',
    'share_of_matmul': 'of matmul',
    'share_of_copy': 'of copy',
    'note': 'note',
}


def render_summary(rows: Sequence[Mapping[str, str]]) -> str:
    """One table for each size; empty columns are left out.

    The speed ratio is images per second over those of the first contender.
    """
    sizes: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for row in rows:
        sizes.setdefault((row['height'], row['width']), []).append(row)
    parts = []
    for (height, width), group in sizes.items():
        shown = [column for column in _COLUMNS if any(row[column] for row in group)]
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in shown:
            numeric = column not in ('contender', 'mode', 'note')
            table.add_column(_COLUMNS[column], justify='right' if numeric else 'left', no_wrap=True)
        for row in group:
            table.add_row(*(_short(row[column]) for column in shown))
        stream = io.StringIO()
        Console(file=stream, width=10_000, color_system=None, markup=False).print(table)
        lines = (line.rstrip() for line in stream.getvalue().splitlines())
        parts.append(f'{height}x{width}\n' + '\n'.join(lines).strip('\n'))
    return '\n\n'.join(parts)


def _short(cell: str) -> str:
    try:
        return f'{float(cell):.4g}' if '.' in cell or 'e' in cell else cell
    except ValueError:
        return cell
