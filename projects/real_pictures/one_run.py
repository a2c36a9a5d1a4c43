"""One run in this process: train, or go on, evaluate the last weights, and write the record."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import math
import platform
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from weightformer_mm.apis import train
from weightformer_mm.apis.complexity import complexity_of_config
from weightformer_mm.apis.test import evaluate
from weightformer_mm.apis.training import RESUME_LAST
from weightformer_mm.checkpoints.sources import load_weights
from weightformer_mm.utils.writing import written_whole

from .clock import CPU_SECONDS, SECONDS
from .plan import CONFIGS, SHORT, Run

SHAPES = {'camvid': (360, 480), 'nuclei': (256, 256)}  # at which a network is counted


def main(run: Run, work_dir: Path, record: Path, commits: list[str]) -> None:
    """Train in ``work_dir`` and write ``record``.

    Args:
        commits: of the repository, each with which a part of the training ran.
    """
    cfg = run.load_config()
    train(cfg, str(work_dir), RESUME_LAST)
    checkpoint = work_dir / f'epoch_{cfg.max_epochs}.pth'
    metrics = {'metrics': _evaluate(cfg, checkpoint)}
    if run.protocol != SHORT:
        metrics['tta_metrics'] = _evaluate(cfg, checkpoint, tta=True)
    clock = load_weights(checkpoint)['message_hub']['runtime_info']
    content = {
        **dataclasses.asdict(run),
        'config': CONFIGS[run.protocol][run.data],
        'epochs': cfg.max_epochs,
        'learning_rate': cfg.optim_wrapper.optimizer.lr,
        **metrics,
        **_cost(cfg, SHAPES[run.data]),
        'seconds': clock[SECONDS],
        'cpu_seconds': clock[CPU_SECONDS],
        'threads': torch.get_num_threads(),
        'machine': platform.processor() or platform.machine(),
        'torch': torch.__version__,
        'commits': commits,
        'date': datetime.date.today().isoformat(),
    }
    record.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(record) as partial:
        partial.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')


def _evaluate(cfg: Config, checkpoint: Path, tta: bool = False) -> dict[str, float | None]:
    work_dir = checkpoint.with_name('test_tta' if tta else 'test')
    metrics = evaluate(cfg, str(checkpoint), str(work_dir), tta=tta)
    return {n: float(v) if math.isfinite(v) else None for n, v in metrics.items()}


def _cost(cfg: Config, shape: tuple[int, int]) -> dict[str, Any]:
    """Parameters and multiply-adds at a height and width, of the whole network and of its backbone."""
    costs = {}
    for prefix, backbone in (('', False), ('backbone_', True)):
        _, (complexity,) = complexity_of_config(cfg, [shape], backbone)
        costs[f'{prefix}parameters'] = complexity.total.parameters
        costs[f'{prefix}multiply_adds'] = complexity.total.multiply_adds
    return {'shape': f'{shape[0]}x{shape[1]}', **costs}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for field in dataclasses.fields(Run):
        kind = {'rate': float, 'seed': int}.get(field.name, str)
        parser.add_argument(f'--{field.name}', type=kind, default=argparse.SUPPRESS)
    parser.add_argument('--work-dir', type=Path, required=True)
    parser.add_argument('--record', type=Path, required=True)
    parser.add_argument('--commits', nargs='+', required=True)
    return parser.parse_args()


if __name__ == '__main__':
    given = vars(parse_args())
    places = [given.pop(name) for name in ('work_dir', 'record', 'commits')]
    main(Run(**given), *places)
