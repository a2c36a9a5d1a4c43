"""The file of findings that are no row of the benchmark: a line each, written at once, by any process."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

NAME = 'findings.csv'
COLUMNS = ('part', 'what', 'verdict', 'value', 'unit', 'detail', 'device', 'commit', 'seed', 'date')
OK, FAILED, MEASURED, NOT_RUN = 'ok', 'FAILED', 'measured', 'not run'
SEED = 0  # of everything random in a report
_LONGEST = 1000  # characters of a detail; a line is written in one piece, and others write, too


@dataclass(frozen=True)
class Findings:
    """Appends to the file of findings.

    Attributes:
        out: the folder of the report.
        part: what finds something.
        device: name of the GPU or the processor.
    """

    out: Path
    part: str
    device: str

    def add(
        self, what: str, verdict: str, value: float | None = None, unit: str = '', detail: str = ''
    ) -> None:
        """Write a finding and show it.

        Args:
            verdict: one of ``OK``, ``FAILED``, ``MEASURED``, ``NOT_RUN``.
        """
        number = '' if value is None else f'{value:.6g}'
        detail = ' '.join(detail.split())[:_LONGEST]
        commit = os.environ.get('WEIGHTFORMER_COMMIT', '')
        date = datetime.now(timezone.utc).isoformat(timespec='seconds')
        cells = (self.part, what, verdict, number, unit, detail, self.device, commit, SEED, date)
        line = io.StringIO()
        csv.writer(line, lineterminator='\n').writerow(cells)
        with (self.out / NAME).open('a', encoding='utf-8') as file:
            file.write(line.getvalue())
            file.flush()
            os.fsync(file.fileno())
        words = (f'{self.part}: {what}', verdict, number, unit, detail)
        print('  '.join(word for word in words if word), flush=True)


def start_file(out: Path) -> None:
    """Make the file with its head, in place of an earlier one."""
    (out / NAME).write_text(','.join(COLUMNS) + '\n', encoding='utf-8')


def read(out: Path) -> list[dict[str, str]]:
    """All findings so far."""
    with (out / NAME).open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))
