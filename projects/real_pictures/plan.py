"""Which runs there are. The later ones depend on what the learning rates of the earlier ones brought."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from mmengine.config import Config

from .networks import MAIN, PEERS, PUBLISHED, STRATEGIES, use_network
from .recipes import ABLATIONS

CONFIGS = Path(__file__).with_name('configs')
RATES = (0.5, 1.0, 2.0)  # of the learning rate that the recipe has
# the metric that decides, in per cent or from 0 to 1, as the evaluator gives it
METRICS = {'camvid': 'mIoU', 'nuclei': 'coco/nucleus_precision'}
SEEDS = {**dict.fromkeys(MAIN, 3), **dict.fromkeys(PEERS, 2)}


@dataclass(frozen=True)
class Run:
    """One training with its evaluation.

    Attributes:
        data: ``'camvid'`` or ``'nuclei'``.
        network: a strategy of the pyramid, or a peer.
        rate: factor on the recipe's learning rate.
        recipe: the element of the recipe that is changed; None: as it is.
        seed: of the first weights, of the order of the images and of the augmentation.
    """

    data: str
    network: str = PUBLISHED
    rate: float = 1.0
    recipe: str | None = None
    seed: int = 0

    @property
    def name(self) -> str:
        """Such as ``camvid/swin_rate2_seed0``."""
        parts = [self.network, *([f'rate{self.rate:g}'] if self.rate != 1 else [])]
        parts += [self.recipe] if self.recipe else []
        return f'{self.data}/{"_".join(parts)}_seed{self.seed}'

    def load_config(self) -> Config:
        cfg = Config.fromfile(CONFIGS / f'{self.data}.py')
        use_network(cfg, self.network)
        if self.recipe:
            ABLATIONS[self.data][self.recipe](cfg)
        cfg.optim_wrapper.optimizer.lr *= self.rate
        cfg.randomness = dict(seed=self.seed)
        return cfg


def ablations(data: str) -> list[Run]:
    """The recipe, and each of its changes."""
    return [Run(data), *(Run(data, recipe=name) for name in ABLATIONS[data])]


def searches(data: str) -> list[Run]:
    """Every learning rate for each network that is compared with more than one seed."""
    return [Run(data, name, rate) for name in SEEDS for rate in RATES]


def comparisons(data: str, scores: Mapping[str, float]) -> list[Run]:
    """The same networks with their best learning rates and all seeds; strategies alone have the pyramid's.

    Args:
        scores: the deciding metric by the name of a run. Networks whose search is not over are left out.
    """
    rates = {name: best_rate(data, name, scores) for name in SEEDS}
    runs = [
        Run(data, name, rate, seed=seed)
        for name, rate in rates.items()
        if rate is not None
        for seed in range(SEEDS[name])
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
    parts = (ablations, searches, lambda name: comparisons(name, scores))
    steps = [step for part in parts for step in zip_longest(*map(part, data))]
    return list(dict.fromkeys(run for step in steps for run in step if run is not None))
