"""How far a training in another process has come."""

from __future__ import annotations

import json
from pathlib import Path


def newest_scalars(work_dir: Path) -> list[dict]:
    """The lines that mmengine's logger wrote in the last training in ``work_dir``; empty before its first."""
    files = _files(work_dir)
    return _read(files[-1]) if files else []


def all_scalars(work_dir: Path) -> list[dict]:
    """The lines of all trainings in ``work_dir``, each of which continued the one before, without repeats."""
    lines: list[dict] = []
    for file in _files(work_dir):
        new = _read(file)
        first = min((line['step'] for line in new if 'loss' in line), default=0)
        known = next(
            (i for i, line in enumerate(lines) if 'loss' in line and line['step'] >= first), None
        )
        lines = lines[:known] + new
    return lines


def newest_of(lines: list[dict], name: str) -> dict | None:
    """The last line that has a value of that name, such as ``loss``; None before the first."""
    return next((line for line in reversed(lines) if name in line), None)


def _files(work_dir: Path) -> list[Path]:
    """The logs of the trainings in ``work_dir``, in the order of their times."""
    return sorted(work_dir.glob('*/vis_data/scalars.json'), key=lambda path: path.parts[-3])


def _read(path: Path) -> list[dict]:
    complete = path.read_text().rpartition('\n')[0]  # the last line may still be being written
    return [json.loads(line) for line in complete.splitlines()]
