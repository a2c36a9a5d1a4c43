"""The table at the end of the demo."""

from __future__ import annotations

import json
from pathlib import Path

from .tasks import TaskFolder


def task_metrics(folder: TaskFolder) -> dict[str, float]:
    """The task's metrics as fractions, from the evaluator's results."""
    values = json.loads(folder.metrics.read_text())
    return {title: values[name] * factor for title, (name, factor) in folder.task.metrics.items()}


def format_table(folders: list[TaskFolder]) -> str:
    """One row a metric: its value, the minutes of training, and where everything lies."""
    rows = [('task', 'metric', 'value', 'training', 'checkpoint', 'sheet')]
    for folder in folders:
        minutes = f'{folder.read_state()["train_seconds"] / 60:.1f} min'
        for title, value in task_metrics(folder).items():
            place = (_short(folder.checkpoint()), _short(folder.sheet))
            rows.append((folder.task.name, title, f'{value:.3f}', minutes, *place))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        '  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    ]
    return '\n'.join([lines[0], '-' * len(lines[0]), *lines[1:]])


def _short(path: Path) -> str:
    """Relative to the present folder where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
