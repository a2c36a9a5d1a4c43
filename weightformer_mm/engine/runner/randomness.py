"""Random numbers that depend on the seed and on the place in the schedule alone.

A run draws them from generators whose state is part of no checkpoint, and those of data loading workers
cannot be read at all. So each sample and each iteration begins with generators seeded from where it stands: a
run that continues from a checkpoint then sees the same images, augmented in the same way, and drops the same
paths, as if it had never stopped, with any number of workers. The augmentation of a sample is the same for
any number of processes too.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import DATA_SAMPLERS, HOOKS
from torch.utils.data import DataLoader, Sampler

_ITERATIONS, _SAMPLES = 0, 1  # what a stream of numbers is for, so that no two are the same


class Position(int):
    """Index of a sample, with ``place``: the whole numbers that the sample's random numbers depend on."""

    place: tuple[int, ...]

    def __new__(cls, index: int, place: tuple[int, ...] = ()) -> Position:
        position = super().__new__(cls, index)
        position.place = place
        return position


@DATA_SAMPLERS.register_module()
class PositionSampler(Sampler):
    """A sampler whose indices know their place in the schedule.

    Args:
        dataset: given by the data loader.
        seed: given by the data loader.
        sampler: config of the sampler proper, which it otherwise behaves as.
    """

    def __init__(self, dataset: Any, seed: int | None, sampler: dict) -> None:
        self.sampler = DATA_SAMPLERS.build(sampler, default_args={'dataset': dataset, 'seed': seed})
        self.seed = getattr(self.sampler, 'seed', None) if seed is None else seed
        self.rank = getattr(self.sampler, 'rank', 0)
        self.world_size = getattr(self.sampler, 'world_size', 1)
        self.epoch = 0
        self.start = 0

    def __iter__(self) -> Iterator[Position]:
        for number, index in enumerate(self.sampler, self.start):
            # the samplers of mmengine deal one sequence out to the processes in turn
            place = (_SAMPLES, self.seed or 0, self.epoch, number * self.world_size + self.rank)
            yield Position(index, place)

    def __len__(self) -> int:
        return len(self.sampler)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)

    def __getattr__(self, name: str) -> Any:
        if name == 'sampler':  # not built yet, as while it is unpickled
            raise AttributeError(name)
        value = getattr(self.sampler, name)
        return self._skip if name == 'skip' else value  # only where the sampler proper can skip

    def _skip(self, num_samples: int) -> None:
        self.sampler.skip(num_samples)
        self.start = num_samples


class SeededFetch:
    """``dataset.__getitems__``: the samples of a batch, each from generators seeded by its place."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __call__(self, positions: Sequence[int]) -> list[Any]:
        return [self._fetch(position) for position in positions]

    def _fetch(self, position: int) -> Any:
        if not isinstance(position, Position):
            return self.dataset[position]
        with seeded(position.place):
            return self.dataset[int(position)]


@HOOKS.register_module()
class SeedIterationsHook(Hook):
    """Seed the generators of this process at the beginning of each training iteration."""

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        seed_generators((_ITERATIONS, runner.seed or 0, get_rank(), runner.iter))


def use_positions(cfg: Config) -> None:
    """Put :class:`PositionSampler` around the sampler of ``cfg.train_dataloader``."""
    sampler = cfg.train_dataloader.get('sampler')
    if isinstance(sampler, dict) and sampler.get('type') != PositionSampler.__name__:
        cfg.train_dataloader.sampler = {'type': PositionSampler.__name__, 'sampler': sampler}


def resume_seed(cfg: Config, checkpoint: dict[str, Any]) -> None:
    """Where the config leaves the seed to chance, take that of the run that goes on.

    mmengine would do so after it has built the data loader with another one.
    """
    randomness = dict(cfg.get('randomness') or {})
    if randomness.get('seed') is None and checkpoint['meta'].get('seed') is not None:
        cfg.randomness = {**randomness, 'seed': checkpoint['meta']['seed']}


def seed_samples(loader: DataLoader) -> None:
    """Let the data set of a loader heed the positions that a :class:`PositionSampler` gives."""
    samplers = (loader.sampler, getattr(loader.batch_sampler, 'sampler', None))
    if any(isinstance(sampler, PositionSampler) for sampler in samplers):
        # read by torch's fetchers where it is there; the data set keeps its type and attributes, which
        # hooks that switch the pipeline look for
        loader.dataset.__getitems__ = SeededFetch(loader.dataset)


def seed_generators(place: Sequence[int]) -> None:
    """Seed the global generators of Python, numpy and torch, on every device, from whole numbers >= 0."""
    seeds = np.random.SeedSequence(place).generate_state(3).tolist()
    random.seed(seeds[0])
    np.random.seed(seeds[1])
    torch.manual_seed(seeds[2])


@contextmanager
def seeded(place: Sequence[int]) -> Iterator[None]:
    """Global generators of the CPU seeded from ``place``, and as they were afterwards."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seeds = np.random.SeedSequence(place).generate_state(3).tolist()
    random.seed(seeds[0])
    np.random.seed(seeds[1])
    torch.default_generator.manual_seed(seeds[2])
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
