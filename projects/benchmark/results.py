"""The CSV file of results, one row per contender, size and mode."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from weightformer_mm.errors import UserError
from weightformer_mm.utils.tables import text_table
from weightformer_mm.utils.writing import make_folder, written_whole

LOST = 'not measured: an earlier failure left the GPU unusable'  # a note
# column → what docs/benchmarks/README.md says of it
COLUMNS = {
    'date': 'when it was measured, UTC',
    'commit': '`WEIGHTFORMER_COMMIT`, or of this package; `+dirty` if files were changed; empty if unknown',
    'device': 'name of the GPU or the processor',
    'threads': "of PyTorch's operations on the CPU",
    'torch': 'version',
    'triton': 'version, empty where it is not installed',
    'timm': 'version',
    'mmdet': 'version, empty where it is not installed',
    'contender': 'name of the network; for `ops`, `op/arch-stage/backend`',
    'parameters': 'number of parameters',
    'mode': '`inference` or `train` (forward and backward, no optimizer); for `ops`, `forward` or `backward`',
    'dtype': 'of the computation; networks run half precision under autocast, unless `+pure`',
    'batch': 'images per step',
    'height': 'of the images in pixels; for `ops`, of the feature map',
    'width': 'likewise',
    'median_ms': 'milliseconds of a step, median over rounds',
    'p20_ms': '20th percentile over rounds',
    'p80_ms': '80th percentile over rounds',
    'images_per_s': 'from the median',
    'speed_ratio': 'images/s over those of `ratio_to`: the median of the ratios of the same rounds',
    'ratio_to': 'the first contender of the run',
    'peak_mib': 'peak memory of a step in MiB (2^20 bytes); GPU: of the allocator, weights included; CPU: '
    'resident memory above the baseline',
    'baseline_mib': 'memory with the network built, before the step; CPU: with Python and the libraries',
    'multiply_adds': 'of one step, by formula; training is three times the forward pass by convention',
    'tera_multiply_adds_per_s': 'these, divided by the median time',
    'share_of_matmul': 'that rate over the matrix-product ceiling',
    'bytes': 'the fewest bytes that the operation must move: `ops` only',
    'share_of_copy': 'bytes per second over the copy ceiling: `ops` only',
    'matmul_tera_multiply_adds_per_s': 'ceiling: the fastest large matrix product in that dtype, in this run',
    'copy_gb_per_s': 'ceiling: the fastest large copy in this run, bytes read and written, 10^9 per second',
    'rounds': 'how many were timed',
    'seed': 'of images, weights and gradients; empty where it was not noted',
    'note': 'why cells are empty',
}
# the columns that the terminal shows, and their titles there
_SHOWN = {
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
_IDENTITY = ('commit', 'device', 'threads', 'contender', 'mode', 'dtype', 'height', 'width')


class Results:
    """Rows in memory and, with a path, in a CSV file, which is rewritten whole after every addition.

    Args:
        path: the file; its rows are kept, and new ones are appended.
        option: the command line option that named it, for messages.

    Raises:
        UserError: the file has other columns, or cannot be written.
    """

    def __init__(self, path: Path | None = None, option: str = '--out'):
        self.path = path
        self.rows: list[dict[str, str]] = []
        self.new: list[dict[str, str]] = []
        if path is None:
            return
        if path.suffix != '.csv':
            raise UserError(f'{option} {path}: expected a name that ends in .csv')
        make_folder(path.parent, option)
        if path.exists():
            self.rows = read_rows(path)

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows; a column that a row lacks stays empty.

        Raises:
            KeyError: for a cell of an unknown column.
        """
        for row in rows:
            unknown = set(row) - set(COLUMNS)
            if unknown:
                raise KeyError(f'unknown columns: {", ".join(sorted(unknown))}')
            self.new.append({column: _cell(row.get(column)) for column in COLUMNS})
        if self.path is not None and rows:
            with written_whole(self.path) as partial, partial.open('w', newline='') as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator='\n')
                writer.writeheader()
                writer.writerows([*self.rows, *self.new])

    def has(self, row: Mapping[str, Any]) -> bool:
        """Whether the file has a row of the same contender, size, mode, dtype, device and commit.

        One that an earlier failure kept from being measured does not count.
        """
        wanted = [_cell(row[column]) for column in _IDENTITY]
        known = (row for row in self.rows if row['note'] != LOST)
        return any([row[column] for column in _IDENTITY] == wanted for row in known)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file of results.

    Raises:
        UserError: it does not exist, has other columns, or has a broken row.
    """
    if not path.is_file():
        raise UserError(f'{path}: no such file')
    with path.open(newline='', encoding='utf-8') as file:
        reader = csv.DictReader(file, restkey='')
        try:
            rows = list(reader)
            columns = list(reader.fieldnames or [])
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f'{path}: not a CSV file: {error}') from error
    if columns != list(COLUMNS):
        missing = [column for column in COLUMNS if column not in columns]
        foreign = [column for column in columns if column not in COLUMNS]
        detail = '; '.join(
            f'{word} {", ".join(names)}'
            for word, names in (('lacks', missing), ('has', foreign))
            if names
        )
        raise UserError(
            f'{path}: other columns than the benchmark writes ({detail or "in another order"}); '
            'name another file'
        )
    for number, row in enumerate(rows, start=2):
        if None in row.values() or '' in row:
            raise UserError(f'{path}, line {number}: expected {len(COLUMNS)} cells')
    return rows


def _cell(value: Any) -> str:
    if value is None:
        return ''
    return f'{value:.6g}' if isinstance(value, float) else str(value)


def render_rows(rows: Sequence[Mapping[str, str]]) -> str:
    """One table for each size; empty columns are left out."""
    sizes: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for row in rows:
        sizes.setdefault((row['height'], row['width']), []).append(row)
    parts = []
    for (height, width), group in sizes.items():
        shown = [column for column in _SHOWN if any(row[column] for row in group)]
        cells = [[_short(row[column]) for column in shown] for row in group]
        table = text_table([_SHOWN[column] for column in shown], cells)
        parts.append(f'{height}x{width}\n{table}')
    return '\n\n'.join(parts)


def _short(cell: str) -> str:
    try:
        return f'{float(cell):.4g}' if '.' in cell or 'e' in cell else cell
    except ValueError:
        return cell
