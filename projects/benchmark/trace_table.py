"""What ``tools/benchmark.py trace`` does: counted steps of several networks as CSV and Markdown."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weightformer_mm.errors import UserError
from weightformer_mm.ops._shared.compat import HAS_CUSTOM_OPS
from weightformer_mm.utils.tables import markdown_table, text_table
from weightformer_mm.utils.writing import make_folder, written_whole

from .ceilings import Ceilings
from .contenders import Contender, parse_contenders
from .kinds import KINDS
from .steps import Case

COLUMNS = (
    *('network', 'mode', 'dtype', 'batch', 'height', 'width', 'kind'),
    *('launches', 'bytes', 'multiply_adds', 'least_ms'),
)
ALL = 'all'  # in the column `kind`
HEAD = ('', 'launches', 'GB', 'G multiply-adds', 'least ms')


@dataclass(frozen=True)
class Limits:
    """What the GPU reaches at most, and the least time that a kernel takes.

    Attributes:
        copy_tbs: bytes read and written in a copy, 10^12 per second.
        matmul_tflops: of a matrix product, two operations for a multiply-add.
        launch_us: microseconds.
    """

    copy_tbs: float
    matmul_tflops: float
    launch_us: float

    def check(self) -> None:
        """Raise a UserError unless all are positive."""
        for name, value in vars(self).items():
            if not value > 0:
                raise UserError(f'--{name.replace("_", "-")} {value}: expected a positive number')

    @property
    def ceilings(self) -> Ceilings:
        return Ceilings(self.matmul_tflops / 2 * 1e12, self.copy_tbs * 1e12)


def run_trace(
    names: Sequence[str], cases: Sequence[Case], limits: Limits, out: str | None = None
) -> list[dict[str, Any]]:
    """Count a step of each network in each case, print it, and write ``out``.

    Args:
        names: as `parse_contenders` takes them.
        out: a path without suffix; it gets ``.csv`` and ``.md``.

    Raises:
        UserError: bad input, before anything is counted.
    """
    if not HAS_CUSTOM_OPS:
        raise UserError('trace: needs torch 2.4 or newer')
    from .trace import trace_step

    limits.check()
    if min(min(case.batch, *case.size) for case in cases) < 1:
        raise UserError('--batch and --shape: expected positive numbers')
    contenders = parse_contenders(names)
    for contender in contenders:
        if 'compile' in contender.variants:
            raise UserError(f'{contender.name}: compiled code has no single operations to count')
        for case in cases:
            if reason := contender.refuses(*case.size):
                raise UserError(f'{contender.name} at {case.height}x{case.width}: {reason}')
    if out is not None:
        make_folder(Path(out).expanduser().parent, '--out')
    rows = [
        row
        for case in cases
        for contender in contenders
        for row in _rows(contender, case, trace_step(contender.build(), case), limits)
    ]
    for title, lines in _sections(rows):
        print(f'\n{title}\n{text_table(HEAD, lines)}')
    if out is not None:
        _write(Path(out).expanduser(), rows, limits)
    return rows


def _rows(
    contender: Contender, case: Case, launches: Sequence[Any], limits: Limits
) -> list[dict[str, Any]]:
    """One for all kernels, and one for each kind, the longest first."""
    where = (contender.name, case.mode, case.dtype, case.batch, *case.size)
    parts = {kind: [launch for launch in launches if launch.kind == kind] for kind in KINDS}
    rows = []
    for kind, part in [(ALL, launches), *parts.items()]:
        if part:
            least = sum(launch.least_ms(limits.ceilings, limits.launch_us) for launch in part)
            sums = [sum(getattr(launch, name) for launch in part) for name in COLUMNS[8:10]]
            rows.append(dict(zip(COLUMNS, (*where, kind, len(part), *sums, least))))
    return sorted(rows, key=lambda row: (row['kind'] != ALL, -row['least_ms']))


def _sections(rows: Sequence[dict[str, Any]]) -> Iterable[tuple[str, list[list[str]]]]:
    """Title and lines of each table: the networks of a case, and then the kinds of each network."""
    cases = list(dict.fromkeys(tuple(row[name] for name in COLUMNS[1:6]) for row in rows))
    for case in cases:
        mode, dtype, batch, height, width = case
        here = [row for row in rows if tuple(row[name] for name in COLUMNS[1:6]) == case]
        title = f'{mode}, {height}x{width}, batch {batch}, {dtype}'
        yield title, [_line(row, 'network') for row in here if row['kind'] == ALL]
        for network in dict.fromkeys(row['network'] for row in here):
            parts = [row for row in here if row['network'] == network and row['kind'] != ALL]
            yield f'{network}: {title}', [_line(row, 'kind') for row in parts]


def _line(row: dict[str, Any], name: str) -> list[str]:
    sizes = (f'{row[key] / 1e9:.2f}' for key in ('bytes', 'multiply_adds'))
    return [row[name], str(row['launches']), *sizes, f'{row["least_ms"]:.2f}']


def _write(out: Path, rows: Sequence[dict[str, Any]], limits: Limits) -> None:
    with (
        written_whole(out.with_name(f'{out.name}.csv')) as partial,
        partial.open('w', newline='') as file,
    ):
        writer = csv.DictWriter(file, COLUMNS, lineterminator='\n')
        writer.writeheader()
        writer.writerows({**row, 'least_ms': round(row['least_ms'], 4)} for row in rows)
    about = (
        '# Counted on no GPU: launches, bytes and least times\n\n'
        'Written by `python tools/benchmark.py trace`, which runs a step on tensors that have a shape and no '
        'memory.\nEach operation is a kernel that reads its inputs and writes its outputs once; a Triton '
        'kernel of this package, each\nof its tensors once. The least time of a kernel is the longest of its '
        f'bytes at {limits.copy_tbs:g} TB/s, its arithmetic at\n{limits.matmul_tflops:g} TFLOP/s, and '
        f'{limits.launch_us:g} µs for its launch. Nothing here was measured.\n'
    )
    tables = (
        f'\n## {title}\n\n{markdown_table(HEAD, lines, True)}' for title, lines in _sections(rows)
    )
    with written_whole(out.with_name(f'{out.name}.md')) as partial:
        partial.write_text(about + ''.join(tables), encoding='utf-8')
    print(f'\n{out}.csv and {out}.md')
