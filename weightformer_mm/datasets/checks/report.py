"""What a check of a data set found, as a table and as lines."""

from __future__ import annotations

from collections import Counter
from functools import partialmethod

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from ...errors import UserError

ERROR, WARNING, NOTE = 'error', 'warning', 'note'
_EXAMPLES = 3


class BadData(UserError):
    """A training on the data would fail or go wrong."""

    exit_code = 1


class Report:
    """The findings of one data set.

    Args:
        title: which data set, for the reader.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._looked: dict[str, str] = {}  # check → how much of the data it saw
        self._findings: dict[tuple[str, str, str], list[str]] = {}  # level, check, what → where

    def looked(self, check: str, number: int, whole: int | None = None) -> None:
        """Note that ``check`` looked at ``number`` things, of ``whole`` in all."""
        self._looked[check] = f'{number}' if whole in (None, number) else f'{number} of {whole}'

    def _add(self, level: str, check: str, what: str, where: str = '') -> None:
        self._findings.setdefault((level, check, what), []).append(where)

    error = partialmethod(_add, ERROR)  # makes a training fail or go wrong
    warning = partialmethod(_add, WARNING)  # a training ignores it, and a user should know
    note = partialmethod(_add, NOTE)

    def count(self, level: str) -> int:
        """Number of kinds of findings of a level."""
        return sum(kind == level for kind, _, _ in self._findings)

    def show(self) -> None:
        """Print the findings."""
        console = Console(soft_wrap=True, markup=False, highlight=False)
        console.print(self.title)
        table = Table('check', box=None, padding=(0, 2, 0, 0))
        table.add_column('looked at', justify='right')
        table.add_column('result')
        counts = Counter((check, level) for level, check, _ in self._findings)
        for check in dict.fromkeys([*self._looked, *(check for check, _ in counts)]):
            found = [(counts[check, level], level) for level in (ERROR, WARNING)]
            result = ', '.join(quantity(number, level) for number, level in found if number)
            table.add_row(check, self._looked.get(check, ''), result or 'ok')
        console.print(Padding(table, (0, 0, 0, 2)))
        for level in (ERROR, WARNING, NOTE):
            for (kind, check, what), places in self._findings.items():
                if kind == level:
                    times = f' ({len(places)})' if len(places) > 1 else ''
                    examples = places[:_EXAMPLES] + ['...'] * (len(places) > _EXAMPLES)
                    where = f': {"; ".join(examples)}' if places[0] else ''
                    console.print(f'  {level}: {check}: {what}{times}{where}')


def quantity(count: int, noun: str) -> str:
    return f'{count} {noun}' if count == 1 else f'{count or "no"} {noun}s'
