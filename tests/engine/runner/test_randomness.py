from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from torch.utils.data import DataLoader, Dataset

from weightformer_mm.engine.runner.randomness import (
    resume_seed,
    seed_generators,
    seeded,
    with_positions,
)
from weightformer_mm.engine.runner.runner import CheckedRunner


class Draws(Dataset):
    """Each sample: its index and a number from each global generator."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple:
        assert type(index) is int
        return index, random.random(), float(np.random.rand()), float(torch.rand(()))


class Images(Draws):
    metainfo = {'classes': ('a',)}
    pipeline = 'first'


def loader_of(sampler: dict, seed: int = 0, **options: object) -> DataLoader:
    options = {'dataset': Draws(), 'batch_size': 2, 'collate_fn': tuple, **options}
    return CheckedRunner.build_dataloader(with_positions({'sampler': sampler, **options}), seed)


def draws(sampler: str, workers: int = 0, epoch: int = 0, skip: int = 0, seed: int = 3) -> list:
    loader = loader_of({'type': sampler, 'shuffle': True}, seed, num_workers=workers)
    loader.sampler.set_epoch(epoch)
    if skip:
        loader.sampler.skip(skip)
    return [sample for _, batch in zip(range(3), loader) for sample in batch]


@pytest.mark.parametrize('workers', [1, 2])
def test_samples_do_not_depend_on_the_workers(workers):
    assert draws('DefaultSampler', workers) == draws('DefaultSampler')


def test_every_sample_of_every_epoch_has_its_own_numbers():
    samples = draws('DefaultSampler') + draws('DefaultSampler', epoch=1)
    for position in (1, 2, 3):
        assert len({sample[position] for sample in samples}) == 12
    assert draws('DefaultSampler', seed=4) != draws('DefaultSampler')


def test_a_sampler_that_skips_goes_on_where_it_would_have_been():
    if not hasattr(__import__('mmengine').dataset.InfiniteSampler, 'skip'):
        pytest.skip('this mmengine advances the loader itself')
    assert draws('InfiniteSampler', skip=2)[:4] == draws('InfiniteSampler')[2:]


def test_seeded_leaves_the_generators_as_they_were():
    seed_generators((0, 1))
    expected = random.random(), np.random.rand(), torch.rand(())
    seed_generators((0, 1))
    with seeded((5,)):
        random.random(), np.random.rand(), torch.rand(())
    assert (random.random(), np.random.rand(), torch.rand(())) == expected


def test_positions_reach_workers_that_are_spawned():
    loader = loader_of({'type': 'DefaultSampler', 'shuffle': False})
    position = next(iter(loader.sampler))
    copy = pickle.loads(pickle.dumps(position))
    assert copy == position == 0 and copy.place == position.place
    assert pickle.loads(pickle.dumps(loader.dataset))[copy] == loader.dataset[position]


def test_hooks_see_the_data_set_inside():
    dataset = loader_of({'type': 'DefaultSampler'}, dataset=Images()).dataset
    assert dataset.metainfo == {'classes': ('a',)} and len(dataset) == 6
    dataset.pipeline = 'another'  # as mmdet's PipelineSwitchHook does
    assert dataset.inside.pipeline == 'another'
    assert not hasattr(dataset, 'cat_ids')


@pytest.mark.parametrize(('given', 'expected'), [(None, 7), (2, 2)])
def test_seed_left_to_chance_is_that_of_the_run_that_goes_on(given, expected):
    cfg = ConfigDict(randomness={'seed': given, 'deterministic': True})
    resume_seed(cfg, {'meta': {'seed': 7}})
    assert cfg.randomness == {'seed': expected, 'deterministic': True}
