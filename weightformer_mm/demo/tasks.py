"""What the demo trains, and where each task keeps its files."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

STATE_FILE = 'demo_state.json'


@dataclass(frozen=True)
class Task:
    """One model of the demo.

    Attributes:
        name: name of its folder below the demo's.
        config: path of its config, relative to the repository.
        metrics: title in the table → name in the evaluator's results, and factor to a fraction.
    """

    name: str
    config: str
    metrics: dict[str, tuple[str, float]]


TASKS = (
    Task(
        'detection',
        'configs/shapes/mask-rcnn_pyramid-weightformer-micro_fpn_shapes.py',
        {'box mAP': ('coco/bbox_mAP', 1.0), 'mask mAP': ('coco/segm_mAP', 1.0)},
    ),
    Task(
        'segmentation',
        'configs/shapes/upernet_pyramid-weightformer-micro_shapes.py',
        {'mIoU': ('mIoU', 0.01)},
    ),
)


class TaskFolder:
    """The files of one task, and what is already done for the present config and data.

    A state file notes a digest of both. Where the digest no longer fits, earlier results count for nothing.
    """

    def __init__(self, task: Task, config: Path, root: Path, data: Path):
        self.task = task
        self.config = config
        self.root = root
        self.data = data
        self.train_log = root / 'train.log'
        self.test_log = root / 'test.log'
        self.results = root / 'results'
        self.metrics = self.results / 'metrics.json'
        self.pictures = root / 'pictures'
        self.sheet = root / 'sheet.png'

    def digest(self) -> str:
        """Digest of the whole config and of the data set's manifest."""
        text = Config.fromfile(self.config).dump() + (self.data / 'manifest.json').read_text()
        return hashlib.sha256(text.encode()).hexdigest()

    def read_state(self) -> dict:
        path = self.root / STATE_FILE
        return json.loads(path.read_text()) if path.is_file() else {}

    def write_state(self, **changes) -> None:
        path = self.root / STATE_FILE
        partial = path.with_suffix('.partial')
        partial.write_text(json.dumps({**self.read_state(), **changes}, indent=2) + '\n')
        partial.replace(path)

    def add_seconds(self, seconds: float) -> None:
        """Count time spent on the training, over interruptions."""
        self.write_state(train_seconds=self.read_state().get('train_seconds', 0.0) + seconds)

    def checkpoint(self) -> Path:
        """The last checkpoint of the training."""
        return self.root / Path((self.root / 'last_checkpoint').read_text().strip()).name

    def total_iterations(self) -> int:
        """Iterations of the whole training: epochs times batches."""
        cfg = Config.fromfile(self.config)
        images = len(list((self.data / 'images' / 'train').iterdir()))
        return cfg.train_cfg.max_epochs * math.ceil(images / cfg.train_dataloader.batch_size)
