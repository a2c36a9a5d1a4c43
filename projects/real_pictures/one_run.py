"""One run in this process: train, or go on, evaluate the last weights, and write the record."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import math
import subprocess
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from weightformer_mm.apis import train
from weightformer_mm.apis.complexity import complexity_of_config
from weightformer_mm.apis.test import evaluate
from weightformer_mm.apis.training import RESUME_LAST
from weightformer_mm.checkpoints.sources import load_weights
from weightformer_mm.config.read import innermost_dataset
from weightformer_mm.engine.work_folder import held
from weightformer_mm.errors import RunFailed, UserError
from weightformer_mm.utils.writing import written_whole

from ..benchmark.machine import device_name
from ..runs import digest_of
from .clock import CPU_SECONDS, SECONDS
from .plan import CONFIGS, ROOT, SHAPES, SHORT, Run, files_of, image_folder
from .training import Training

CODE = ('weightformer_mm', 'configs', 'projects', ':(exclude)projects/real_pictures/results')


def make_run(training: Training, repository: Path = ROOT) -> None:
    """Train in the folder of a run and write its record.

    Args:
        repository: the checkout whose commit the record names.
    """
    cfg = training.run.load_config()
    digest = digest_of(cfg, files_of(cfg))
    # a folder may be claimed, and emptied, only while nothing trains there
    is_there = training.root.is_dir()
    with held(training.root, 'none') if is_there else nullcontext():
        training.prepare(digest, commit_of(repository))
    outcome = _train_and_evaluate(cfg, training)
    record = {
        **dataclasses.asdict(training.run),
        'config': CONFIGS[training.run.protocol][training.run.data],
        'epochs': cfg.max_epochs,
        'learning_rate': cfg.optim_wrapper.optimizer.lr,
        'images': _images(cfg),
        **outcome,
        **_costs(cfg, SHAPES[training.run.data]),
        'threads': torch.get_num_threads(),
        'machine': device_name(torch.device('cpu')),
        'torch': torch.__version__,
        'commits': training.read_state()['commits'],
        'digest': digest,
        'date': datetime.date.today().isoformat(),
    }
    training.record.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(training.record) as partial:
        partial.write_text(json.dumps(record, indent=2) + '\n', encoding='utf-8')


def _train_and_evaluate(cfg: Config, training: Training) -> dict[str, Any]:
    """Metrics and time; of a training that diverged, no metrics and the reason."""
    try:
        train(cfg, str(training.root), RESUME_LAST)
    except RunFailed as error:
        if 'diverged' not in str(error):
            raise
        return {'metrics': {}, 'diverged': str(error)}
    checkpoint = training.root / f'epoch_{cfg.max_epochs}.pth'
    clock = load_weights(checkpoint)['message_hub']['runtime_info']
    outcome = {'metrics': _evaluate(cfg, checkpoint)}
    if training.run.protocol != SHORT:
        outcome['tta_metrics'] = _evaluate(cfg, checkpoint, tta=True)
    return {**outcome, 'seconds': clock[SECONDS], 'cpu_seconds': clock[CPU_SECONDS]}


def _evaluate(cfg: Config, checkpoint: Path, tta: bool = False) -> dict[str, float | None]:
    work_dir = checkpoint.with_name('test_tta' if tta else 'test')
    metrics = evaluate(cfg, str(checkpoint), str(work_dir), tta=tta)
    return {n: float(v) if math.isfinite(v) else None for n, v in metrics.items()}


def _images(cfg: Config) -> dict[str, int]:
    """How many there are for training and for evaluation."""
    folders = {}
    for split in ('train', 'test'):
        folders[split] = image_folder(innermost_dataset(cfg[f'{split}_dataloader']))
    return {split: len(list(folder.iterdir())) for split, folder in folders.items()}


def _costs(cfg: Config, shapes: list[tuple[int, int]]) -> dict[str, Any]:
    """Parameters, and multiply-adds by height and width, of the whole network and of its backbone."""
    costs: dict[str, Any] = {}
    for prefix, backbone in (('', False), ('backbone_', True)):
        _, complexities = complexity_of_config(cfg, shapes, backbone)
        costs[f'{prefix}parameters'] = complexities[0].total.parameters
        costs[f'{prefix}multiply_adds'] = {
            f'{height}x{width}': complexity.total.multiply_adds
            for (height, width), complexity in zip(shapes, complexities)
        }
    return costs


def commit_of(repository: Path) -> str:
    """The commit that is checked out, with ``-dirty`` if a file that a run reads differs from it.

    Raises:
        UserError: the folder is no checkout.
    """
    head, changes = (
        subprocess.run(['git', *words], cwd=repository, capture_output=True, text=True, check=False)
        for words in (['rev-parse', '--short=12', 'HEAD'], ['status', '--porcelain', '--', *CODE])
    )
    if head.returncode:
        raise UserError(f'{repository} is no checkout of git, so no record could name its commit')
    return head.stdout.strip() + ('-dirty' if changes.stdout else '')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for field in dataclasses.fields(Run):
        kind = {'rate': float, 'seed': int}.get(field.name, str)
        parser.add_argument(f'--{field.name}', type=kind, default=argparse.SUPPRESS)
    parser.add_argument('--work-dir', type=Path, required=True)
    parser.add_argument('--results', type=Path, required=True)
    return parser.parse_args()


if __name__ == '__main__':
    given = vars(parse_args())
    places = [given.pop(name) for name in ('work_dir', 'results')]
    make_run(Training(Run(**given), *places))
