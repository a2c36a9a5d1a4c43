"""Random numbers that depend only on the seed and the position in the schedule: ``exact_resume = True``.

Checkpoints do not hold the state of random generators, and the state in data loading workers cannot be read
at all. So the position of each sample and each iteration seeds the generators. A resumed run then sees the
same images with the same augmentation, and drops the same paths, as if it had never stopped. This holds for
any number of workers; the augmentation of a sample does not depend on the number of processes either.
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
from mmengine.registry import DATA_SAMPLERS, DATASETS, HOOKS
from torch.utils.data import Dataset, Sampler

from ...config.read import type_name

# the purpose of a stream of numbers, so that no two streams are the same
_ITERATIONS, _SAMPLES = 0, 1


class Position(int):
    """Index of a sample, with ``place``: the integers that seed the sample's random numbers."""

    place: tuple[int, ...]


class _Around:
    """Behaves like the object inside in everything that a subclass does not define."""

    inside: Any

    def __len__(self) -> int:
        return len(self.inside)

    def __getattr__(self, name: str) -> Any:
        if name == 'inside':  # not there yet, for instance during unpickling
            raise AttributeError(name)
        return getattr(self.inside, name)


@DATA_SAMPLERS.register_module()
class PositionSampler(_Around, Sampler):
    """A sampler whose indices know their position; it wraps the one that the config ``sampler`` describes."""

    def __init__(self, dataset: Any, seed: int | None, sampler: dict) -> None:
        self.inside = DATA_SAMPLERS.build(sampler, default_args={'dataset': dataset, 'seed': seed})
        self.seed = getattr(self.inside, 'seed', None) if seed is None else seed
        self.epoch = self.start = 0

    def __iter__(self) -> Iterator[Position]:
        # mmengine's samplers deal out one sequence to the processes in turn
        rank, world_size = (getattr(self.inside, n, d) for n, d in (('rank', 0), ('world_size', 1)))
        for number, index in enumerate(self.inside, self.start):
            position = Position(index)
            position.place = (_SAMPLES, self.seed or 0, self.epoch, number * world_size + rank)
            yield position

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        if hasattr(self.inside, 'set_epoch'):
            self.inside.set_epoch(epoch)

    def __getattr__(self, name: str) -> Any:
        value = super().__getattr__(name)
        return self._skip if name == 'skip' else value  # only if the sampler inside can skip

    def _skip(self, num_samples: int) -> None:
        self.inside.skip(num_samples)
        self.start = num_samples


@DATASETS.register_module()
class PositionedDataset(_Around, Dataset):
    """Seeds each sample of a data set, given itself or as a config, by its `Position`."""

    def __init__(self, dataset: Any) -> None:
        self.inside = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset

    def __getitem__(self, index: int) -> Any:
        if not isinstance(index, Position):
            return self.inside[index]
        with seeded(index.place):
            return self.inside[int(index)]

    @property
    def pipeline(self) -> Any:
        return self.inside.pipeline

    @pipeline.setter  # hooks use it to switch the pipeline
    def pipeline(self, pipeline: Any) -> None:
        self.inside.pipeline = pipeline


@HOOKS.register_module()
class SeedIterationsHook(Hook):
    """Seed the generators of this process at the beginning of each training iteration."""

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        seed_generators((_ITERATIONS, runner.seed or 0, get_rank(), runner.iter))


def with_positions(dataloader: Any) -> Any:
    """The config of a data loader, with positions for its samples; anything else is returned unchanged."""
    if not isinstance(dataloader, dict) or not isinstance(dataloader.get('sampler'), dict):
        return dataloader
    sampler = {'type': PositionSampler.__name__, 'sampler': dataloader['sampler']}
    return {**dataloader, 'sampler': sampler}


def seeded_by_positions(dataloader: Any) -> Any:
    """The config of a data loader whose data set is seeded if its samples have positions.

    Apart from `with_positions`, so that the data set is checked as the user's config has it.
    """
    sampler = dataloader.get('sampler') if isinstance(dataloader, dict) else None
    if type_name(sampler) != PositionSampler.__name__:
        return dataloader
    dataset = {'type': PositionedDataset.__name__, 'dataset': dataloader['dataset']}
    return {**dataloader, 'dataset': dataset}


def resume_seed(cfg: Config, checkpoint: dict[str, Any]) -> None:
    """If the config leaves the seed to chance, use the resumed run's; mmengine would set it too late."""
    randomness = dict(cfg.get('randomness') or {})
    if randomness.get('seed') is None and checkpoint['meta'].get('seed') is not None:
        cfg.randomness = {**randomness, 'seed': checkpoint['meta']['seed']}


def seed_generators(place: Sequence[int]) -> None:
    """Seed the global generators of Python, numpy and torch, on every device, from integers >= 0."""
    torch.manual_seed(_seed_cpu(place))


@contextmanager
def seeded(place: Sequence[int]) -> Iterator[None]:
    """Seed the CPU's global generators from ``place``, and restore their state afterwards."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    torch.default_generator.manual_seed(_seed_cpu(place))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def _seed_cpu(place: Sequence[int]) -> int:
    """Seed Python and numpy, and return the seed for torch."""
    seeds = np.random.SeedSequence(place).generate_state(3).tolist()
    random.seed(seeds[0])
    np.random.seed(seeds[1])
    return seeds[2]
