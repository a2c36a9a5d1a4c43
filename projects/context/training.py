"""One training of a variant with a seed, in a folder of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmengine.config import Config

from weightformer_mm.errors import RunFailed

from ..runs import Job, RunFolder, Usage, digest_of, newest_of, newest_scalars

STATE_FILE = 'context_run.json'
DEFAULT_SEEDS = (0, 1, 2)
METRICS = ('mIoU', 'cue_accuracy', 'found')  # per cent


@dataclass(frozen=True)
class TaskSet:
    """A config and its data.

    Attributes:
        name: name of its folder and of its report.
        title: what the report says it is.
        config: path relative to the repository.
        options: of the command that trains it.
    """

    name: str
    title: str
    config: str
    options: str = ''

    def with_options(
        self, seeds: Sequence[int], variants: Sequence[str] | None, epochs: int | None
    ) -> TaskSet:
        """The same with the options that are not the default; another number of epochs gets its own name."""
        name, options = self.name, self.options
        if epochs is not None:
            name, options = f'{name}_{epochs}epochs', f'{options} --epochs {epochs}'
        if tuple(seeds) != DEFAULT_SEEDS:
            options += f' --seeds {" ".join(map(str, seeds))}'
        if variants:
            options += f' --variants {" ".join(variants)}'
        return replace(self, name=name, options=options)


BAND = TaskSet(
    'context',
    'a band of 15 to 20 % of the image',
    'configs/context/fcn_pyramid-weightformer-micro_context.py',
)
MARKER = TaskSet(
    'context_hard',
    'a marker of 0.3 % of the image',
    'configs/context/fcn_pyramid-weightformer-micro_context-hard.py',
    ' --hard',
)


class Training(RunFolder):
    """The folder of one training.

    Args:
        config: path of the config.
        variant: name of the variant.
        backbone: its arguments of the backbone.
        seed: of the first weights and of the order of the images.
        root: folder of the run.
        epochs: length of the training; None: as the config has it.
    """

    def __init__(
        self,
        config: Path,
        variant: str,
        backbone: dict[str, str],
        seed: int,
        root: Path,
        epochs: int | None = None,
    ):
        super().__init__(root, STATE_FILE)
        self.config, self.variant, self.seed = config, variant, seed
        self.changes: dict[str, object] = {f'model.backbone.{k}': v for k, v in backbone.items()}
        self.changes['randomness.seed'] = seed
        if epochs is not None:
            self.changes['train_cfg.max_epochs'] = self.changes['train_cfg.val_interval'] = epochs
        self.log = root / 'train.log'

    def load_config(self) -> Config:
        cfg = Config.fromfile(self.config)
        cfg.merge_from_dict(self.changes)
        return cfg

    def prepare(self, repository: Path, force: bool) -> None:
        """Make the folder; results of another config, other data or an interrupted run are removed.

        Raises:
            UserError: the folder holds something that this command did not write.
        """
        cfg = self.load_config()
        digest = digest_of(cfg, (repository / cfg.data_root / 'manifest.json').read_text())
        self.claim(digest, 'make context', force)
        if not self.is_done():
            self.empty('make context')
            self.claim(digest, 'make context')

    def is_done(self) -> bool:
        return 'metrics' in self.read_state()

    def job(self, repository: Path) -> Job:
        changes = {**self.changes, 'default_hooks.logger.interval': 10}
        options = [f'{key}={value}' for key, value in changes.items()]
        tool = str(repository / 'tools' / 'train.py')
        work_dir = ('--work-dir', str(self.root))
        return Job((tool, str(self.config), *work_dir, '--cfg-options', *options), self.log)

    def finish(self, usage: Usage) -> None:
        """Note the metrics and the time of the training that has just ended.

        Raises:
            RunFailed: the training logged no metrics.
        """
        last = newest_of(newest_scalars(self.root), METRICS[0])
        if last is None or any(name not in last for name in METRICS):
            raise RunFailed(f'{self.root}: no {", ".join(METRICS)} in its log; see {self.log}')
        values = {name: last[name] for name in METRICS}
        metrics = {name: v if math.isfinite(v) else None for name, v in values.items()}
        self.write_state(
            variant=self.variant,
            seed=self.seed,
            metrics=metrics,
            seconds=usage.seconds,
            cpu_seconds=usage.cpu_seconds,
        )
