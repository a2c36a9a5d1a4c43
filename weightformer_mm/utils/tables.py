"""Tables for the terminal and for Markdown pages."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table


def text_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table for the terminal. A column is right-aligned if all its cells begin with a digit."""
    rows = list(rows)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, title in enumerate(head):
        justify = 'right' if _is_numeric(rows, index) else 'left'
        table.add_column(title, justify=justify, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    stream = io.StringIO()
    Console(file=stream, width=10_000, color_system=None, markup=False).print(table)
    return '\n'.join(line.rstrip() for line in stream.getvalue().splitlines()).strip('\n')


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], align: bool = False) -> str:
    """A table for a Markdown page, with a final newline; ``align`` right-aligns numbers."""
    rows = list(rows)
    rule = ['--:' if align and _is_numeric(rows, index) else '---' for index in range(len(head))]
    return ''.join(f'| {" | ".join(line)} |\n' for line in [head, rule, *rows])


def _is_numeric(rows: Sequence[Sequence[str]], column: int) -> bool:
    return all(row[column][:1].isdigit() for row in rows if row[column])
