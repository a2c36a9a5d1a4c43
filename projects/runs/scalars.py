"""How far a training in another process has come."""

from __future__ import annotations

import json
from pathlib import Path


def newest_scalars(work_dir: Path) -> list[dict]:
    """The lines that mmengine's logger wrote in the last training in ``work_dir``; empty before its first."""
    files = work_dir.glob('*/vis_data/scalars.json')
    newest = max(files, key=lambda path: path.parent.parent.name, default=None)
    if newest is None:
        return []
    complete = newest.read_text().rpartition('\n')[0]  # the last line may still be being written
    return [json.loads(line) for line in complete.splitlines()]


def newest_loss(work_dir: Path) -> tuple[int, float] | None:
    """Iteration and value of the last loss that was logged; None before the first."""
    losses = [line for line in newest_scalars(work_dir) if 'loss' in line and 'step' in line]
    return (losses[-1]['step'], losses[-1]['loss']) if losses else None
