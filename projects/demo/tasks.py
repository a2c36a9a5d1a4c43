"""What the demo trains, and where each task keeps its files."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from ..runs import RunFolder, digest_of

STATE_FILE = 'demo_state.json'


@dataclass(frozen=True)
class Task:
    """One model of the demo.

    Attributes:
        name: name of its folder below the demo's.
        recipe: path of its config, relative to the repository; its trained weights ship with the package.
        short: path of one that trains for a shorter time.
        metrics: title in the table → name in the evaluator's results, and factor to a fraction.
    """

    name: str
    recipe: str
    short: str
    metrics: dict[str, tuple[str, float]]

    @property
    def main_metric(self) -> tuple[str, str, float]:
        """Title, name and factor of the first, which is shown during the training."""
        title, (name, factor) = next(iter(self.metrics.items()))
        return title, name, factor


TASKS = (
    Task(
        'detection',
        'configs/shapes/mask-rcnn_pyramid-weightformer-micro_fpn_shapes.py',
        'projects/demo/configs/detection.py',
        {'box mAP': ('coco/bbox_mAP', 1.0), 'mask mAP': ('coco/segm_mAP', 1.0)},
    ),
    Task(
        'segmentation',
        'configs/shapes/upernet_pyramid-weightformer-micro_shapes.py',
        'projects/demo/configs/segmentation.py',
        {'mIoU': ('mIoU', 0.01)},
    ),
)


class TaskFolder(RunFolder):
    """The files of one task."""

    def __init__(self, task: Task, config: Path, root: Path, data: Path):
        super().__init__(root, STATE_FILE)
        self.task = task
        self.config = config
        self.data = data
        self.train_log = root / 'train.log'
        self.test_log = root / 'test.log'
        self.results = root / 'results'
        self.metrics = self.results / 'metrics.json'
        self.pictures = root / 'pictures'
        self.sheet = root / 'sheet.png'

    def digest(self) -> str:
        """Digest of the whole config and of the data set's manifest."""
        manifest = (self.data / 'manifest.json').read_text()
        return digest_of(Config.fromfile(self.config), manifest)

    def add_seconds(self, seconds: float) -> None:
        """Count time spent on the training, over interruptions."""
        self.write_state(train_seconds=self.read_state().get('train_seconds', 0.0) + seconds)

    def metric_values(self) -> dict[str, float]:
        """The task's metrics as fractions, from the evaluator's results."""
        values = json.loads(self.metrics.read_text())
        return {title: values[name] * factor for title, (name, factor) in self.task.metrics.items()}

    def checkpoint(self) -> Path:
        """The last checkpoint of the training."""
        return self.root / Path((self.root / 'last_checkpoint').read_text().strip()).name

    def total_iterations(self) -> int:
        """Iterations of the whole training: epochs times batches."""
        cfg = Config.fromfile(self.config)
        images = len(list((self.data / 'images' / 'train').iterdir()))
        return cfg.train_cfg.max_epochs * math.ceil(images / cfg.train_dataloader.batch_size)


def short_path(path: Path) -> str:
    """Relative to the current folder, for a path inside it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
