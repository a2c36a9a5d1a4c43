"""The short table at the end: what failed, what is right, and the times of the networks side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from .findings import FAILED, MEASURED, NOT_RUN, OK, read
from .runner import rows

NAME = 'table.txt'
MOST_LINES = 60
_WIDTH = 150  # of a line
_EXPECTED = ('machine',)  # what is there is expected; what is missing shows


def summary(out: Path) -> str:
    """At most 60 lines about a report; also written to its folder."""
    findings, measured = read(out), rows(out)
    parts = [row for row in findings if row['what'] == 'part']
    well = sum(row['verdict'] == OK for row in parts)
    bad = _lines(findings, FAILED, NOT_RUN)
    lines = [
        f'{well} of {len(parts)} parts ended well; {len(bad)} findings failed or were not made'
    ]
    lines += _times(measured)
    right = [row for row in findings if row['what'] != 'part' and row['part'] not in _EXPECTED]
    groups = [bad, _reasons(measured), _lines(findings, MEASURED), _lines(right, OK)]
    for index, group in enumerate(groups):
        share = max(1, (MOST_LINES - len(lines)) // (len(groups) - index))
        if len(group) > share:
            group[share - 1 :] = [f'... and {len(group) - share + 1} more like these']
        lines += group
    text = '\n'.join(lines[:MOST_LINES])
    (out / NAME).write_text(text + '\n', encoding='utf-8')
    return text


def _lines(findings: Sequence[dict[str, str]], *verdicts: str) -> list[str]:
    return [_line(row) for row in findings if row['verdict'] in verdicts]


def _line(row: dict[str, str]) -> str:
    words = (row['part'], row['what'], row['verdict'], row['value'], row['unit'], row['detail'])
    return '  '.join(word for word in words if word)[:_WIDTH]


def _reasons(measured: Sequence[dict[str, str]]) -> list[str]:
    """Why rows of the benchmark are empty, each reason once."""
    names: dict[str, dict[str, None]] = {}
    for row in measured:
        if row['note']:
            names.setdefault(row['note'], {})[row['contender']] = None
    return [
        f'{next(iter(who))}{f" and {len(who) - 1} more" if len(who) > 1 else ""}  {note}'[:_WIDTH]
        for note, who in names.items()
    ]


def _times(measured: Sequence[dict[str, str]]) -> Iterable[str]:
    """Milliseconds of the networks: a line for each, a column for each mode, size and batch."""
    networks = [row for row in measured if row['mode'] in ('inference', 'train')]
    cases = list(dict.fromkeys(map(_case, networks)))
    cells: dict[str, dict[str, str]] = {}
    for row in networks:
        times = cells.setdefault(row['contender'], {})
        if row['median_ms']:
            times[_case(row)] = f'{float(row["median_ms"]):.4g}'
        else:
            times.setdefault(_case(row), '-')
    if not cells:
        return
    wide = max(map(len, cells)) + 1
    yield 'milliseconds'.ljust(wide) + ''.join(case.rjust(len(case) + 2) for case in cases)
    for name, times in cells.items():
        yield name.ljust(wide) + ''.join(times.get(c, '').rjust(len(c) + 2) for c in cases)


def _case(row: dict[str, str]) -> str:
    letter = 'i' if row['mode'] == 'inference' else 't'
    return f'{letter}{row["height"]}x{row["batch"]}'
