"""Which runs there are. The later ones depend on what the learning rates of the earlier ones brought."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from weightformer_mm.config.read import innermost_dataset

from .networks import MAIN, PEERS, PUBLISHED, STRATEGIES, use_network
from .recipes import CHANGES

ROOT = Path(__file__).parents[2]
# heights and widths at which a network is counted; that of the short protocol comes first
SHAPES = {'camvid': [(180, 240), (360, 480)], 'nuclei': [(256, 256)]}
SHORT = 'short'
# protocol → data set → config: the short one, and the recipe of each size
CONFIGS = {
    SHORT: {
        'camvid': 'projects/real_pictures/configs/camvid_short.py',
        'nuclei': 'projects/real_pictures/configs/nuclei_short.py',
    },
    'micro': {
        'camvid': 'configs/camvid/upernet_pyramid-weightformer-micro_1xb8-80e_camvid-240x320.py',
        'nuclei': 'configs/nuclei/mask-rcnn_pyramid-weightformer-micro_fpn_1xb4-24e_nuclei-256x256.py',
    },
}
RATES = (0.4, 1.0, 2.5)  # of the learning rate that the recipe has
# the metric that decides, in per cent or from 0 to 1, as the evaluator gives it
METRICS = {'camvid': 'mIoU', 'nuclei': 'coco/nucleus_precision'}
COMPARED = (*MAIN, *PEERS)
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Run:
    """One training with its evaluation.

    Attributes:
        data: ``'camvid'`` or ``'nuclei'``.
        network: a strategy of the pyramid, or a peer.
        rate: factor on the recipe's learning rate.
        change: of the recipe, a name in `CHANGES`; None: as it is.
        protocol: ``'short'``, or the size of the network for the whole recipe.
        seed: of the first weights, of the order of the images and of the augmentation.
    """

    data: str
    network: str = PUBLISHED
    rate: float = 1.0
    change: str | None = None
    protocol: str = SHORT
    seed: int = 0

    @property
    def name(self) -> str:
        """Such as ``camvid/swin_rate2_seed0``, or ``nuclei/micro_published_seed0`` for a whole recipe."""
        parts = [*([self.protocol] if self.protocol != SHORT else []), self.network]
        parts += [*([f'rate{self.rate:g}'] if self.rate != 1 else [])]
        parts += [self.change] if self.change else []
        return f'{self.data}/{"_".join(parts)}_seed{self.seed}'

    def load_config(self) -> Config:
        cfg = Config.fromfile(ROOT / CONFIGS[self.protocol][self.data])
        _prepare(cfg, validates=self.protocol != SHORT)
        use_network(cfg, self.network)
        if self.change:
            CHANGES[self.data][self.change](cfg)
        cfg.optim_wrapper.optimizer.lr *= self.rate
        cfg.randomness = dict(seed=self.seed)
        return cfg


def image_folder(dataset: Config) -> Path:
    """Where the images of a data set lie."""
    prefix = dataset.data_prefix
    return ROOT / dataset.data_root / (prefix.get('img') or prefix.img_path)


def files_of(cfg: Config) -> str:
    """Names and sizes of the files that a config reads, a line each."""
    paths = sorted(set(_files(cfg)))
    return ''.join(f'{path.name} {path.stat().st_size}\n' for path in paths)


def _files(cfg: Config) -> Iterator[Path]:
    for dataset in (innermost_dataset(cfg[f'{split}_dataloader']) for split in ('train', 'test')):
        root = ROOT / dataset.data_root
        for folder in dataset.data_prefix.values():
            yield from (root / folder).iterdir()
        if 'ann_file' in dataset:
            yield root / dataset.ann_file


def score(record: Mapping[str, Any]) -> float:
    """The deciding metric, from 0 to 1; 0 for a training that diverged, or a network that found nothing."""
    value = record['metrics'].get(METRICS[record['data']]) or 0.0
    return value / 100 if record['data'] == 'camvid' else value


def scores_of(records: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The scores by the name of the run."""
    return {name: score(record) for name, record in records.items()}


def _prepare(cfg: Config, validates: bool) -> None:
    """What every run has: its time, checkpoints of each epoch, no process beside it, the validation part."""
    cfg.custom_imports.imports += [f'{__package__}.classwise_iou', f'{__package__}.clock']
    import_modules_from_strings(**cfg.custom_imports)
    cfg.default_hooks.update(
        clock=dict(type='ClockHook'),
        checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2),
        logger=dict(type='LoggerHook', interval=10),
    )
    for name in ('train_dataloader', 'val_dataloader'):
        cfg[name].update(num_workers=0, persistent_workers=False)
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
    if cfg.test_evaluator.type == 'IoUMetric':
        cfg.test_evaluator.type = 'ClasswiseIoU'
    if not validates:  # it is evaluated once, after the training
        cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None


def whole_recipes(data: str) -> list[Run]:
    """The whole recipes, whose weights are kept."""
    return [Run(data, protocol=name) for name in CONFIGS if name != SHORT]


def ablations(data: str) -> list[Run]:
    """The recipe, and each of its changes."""
    return [Run(data), *(Run(data, change=name) for name in CHANGES[data])]


def searches(data: str) -> list[Run]:
    """Every learning rate for each network that is compared with more than one seed."""
    return [Run(data, name, rate) for name in COMPARED for rate in RATES]


def comparisons(data: str, scores: Mapping[str, float]) -> list[Run]:
    """The same networks with their best learning rates and all seeds; strategies alone have the pyramid's.

    Args:
        scores: by the name of a run, as `score` gives them. Networks whose search is not over are left out.
    """
    rates = {name: best_rate(data, name, scores) for name in COMPARED}
    runs = [
        Run(data, name, rate, seed=seed)
        for name, rate in rates.items()
        if rate is not None
        for seed in SEEDS
    ]
    alone = [name for name in STRATEGIES if name not in MAIN]
    rate = rates[PUBLISHED]
    return runs + [Run(data, name, rate) for name in alone if rate is not None]


def best_rate(data: str, network: str, scores: Mapping[str, float]) -> float | None:
    """The learning rate with the best score on seed 0; None as long as one is missing."""
    found = {rate: scores.get(Run(data, network, rate).name) for rate in RATES}
    return None if None in found.values() else max(found, key=lambda rate: found[rate])


def all_runs(scores: Mapping[str, float], data: tuple[str, ...] = tuple(METRICS)) -> list[Run]:
    """The runs that are known so far, without repeats, in the order in which they are made."""
    parts = (whole_recipes, ablations, searches, lambda name: comparisons(name, scores))
    steps = [step for part in parts for step in zip_longest(*map(part, data))]
    return list(dict.fromkeys(run for step in steps for run in step if run is not None))
