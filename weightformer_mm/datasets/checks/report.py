"""What a check of a data set found, as a table and as lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partialmethod
from textwrap import indent
from typing import NamedTuple

from ...errors import UserError
from ...utils.tables import text_table

ERROR, WARNING, NOTE = 'error', 'warning', 'note'
_EXAMPLES = 3


class Finding(NamedTuple):
    """One thing that a check found: ``what`` it is, the same for all of its kind, and ``where``."""

    level: str
    check: str
    what: str
    where: str = ''


class BadData(UserError):
    """Training on the data would fail or go wrong."""

    exit_code = 1


class Report:
    """The findings for one data set, which ``title`` names for the reader."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.teaches: bool | None = (
            None  # whether a training learns from it; None: it is not for one
        )
        self._looked: dict[str, str] = {}  # check → how much data it looked at
        self._findings: dict[tuple[str, str, str], list[str]] = {}  # level, check, what → where

    def looked(self, check: str, number: int, whole: int | None = None) -> None:
        """Record that ``check`` looked at ``number`` things out of ``whole``."""
        self._looked[check] = f'{number}' if whole in (None, number) else f'{number} of {whole}'

    def add(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self._add(*finding)

    def _add(self, level: str, check: str, what: str, where: str = '') -> None:
        self._findings.setdefault((level, check, what), []).append(where)

    error = partialmethod(_add, ERROR)  # makes training fail or go wrong
    warning = partialmethod(_add, WARNING)  # training ignores it, but a user should know
    note = partialmethod(_add, NOTE)

    def count(self, level: str) -> int:
        """Number of different findings at a level."""
        return sum(kind == level for kind, _, _ in self._findings)

    def found(self, level: str) -> Iterator[Finding]:
        """The findings at a level."""
        for key, places in self._findings.items():
            if key[0] == level:
                yield from (Finding(*key, place) for place in places)

    def show(self) -> None:
        """Print the findings."""
        counts, rows = Counter((check, level) for level, check, _ in self._findings), []
        for check in dict.fromkeys([*self._looked, *(check for check, _ in counts)]):
            found = [(counts[check, level], level) for level in (ERROR, WARNING)]
            result = ', '.join(quantity(number, level) for number, level in found if number)
            rows.append((check, self._looked.get(check, ''), result or 'ok'))
        print(
            self.title, indent(text_table(('check', 'looked at', 'result'), rows), '  '), sep='\n'
        )
        order = (ERROR, WARNING, NOTE)
        for key, places in sorted(self._findings.items(), key=lambda item: order.index(item[0][0])):
            times = f' ({len(places)})' if len(places) > 1 else ''
            examples = '; '.join(places[:_EXAMPLES] + ['...'] * (len(places) > _EXAMPLES))
            print(f'  {": ".join(key)}{times}' + (f': {examples}' if places[0] else ''))


def quantity(count: int, noun: str) -> str:
    return f'{count} {noun}' if count == 1 else f'{count or "no"} {noun}s'
