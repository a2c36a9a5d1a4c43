"""The page on benchmarks says what the tool does."""

from __future__ import annotations

import re
from pathlib import Path

from projects.benchmark.contenders import TABLE, VARIANTS
from projects.benchmark.results import COLUMNS

PAGE = Path(__file__).resolve().parents[2] / 'docs/benchmarks/README.md'


def expand(name: str) -> list[str]:
    match = re.fullmatch(r'(.*)\{(.*)\}', name)
    return [match[1] + end for end in match[2].split(',')] if match else [name]


def test_columns_are_those_of_the_files():
    table = PAGE.read_text().partition('## Columns')[2]
    rows = re.findall(r'^\| `(\w+)` \| (.*) \|$', table, re.MULTILINE)
    assert dict(rows) == COLUMNS and len(rows) == len(COLUMNS)


def test_contenders_and_variants_are_those_of_the_table():
    text = PAGE.read_text()
    section = text.partition('## Contenders')[2].partition('## Method')[0]
    cells = re.findall(r'^\| (`.*?`) \|', section, re.MULTILINE)
    names = [
        name for cell in cells for given in re.findall(r'`(.*?)`', cell) for name in expand(given)
    ]
    assert names == list(TABLE)
    assert set(re.findall(r'`\+(\w+)`', section)) == set(VARIANTS)
