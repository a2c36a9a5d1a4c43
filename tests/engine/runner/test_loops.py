"""Batches of images of several sizes are evaluated a size at a time; every image counts once, in order."""

from __future__ import annotations

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from mmengine.runner import Runner

import weightformer_mm  # noqa: F401  registers the loops

SIZES = [(4, 6), (5, 3), (4, 6), (5, 3), (4, 4), (4, 6), (7, 7)]


class Sizes(BaseModel):
    """Says the size of each image, and fails for a batch of several."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        assert mode == 'predict' and len(inputs) == len(data_samples)
        size = tuple(torch.stack(inputs).shape[-2:])
        return [(number, size) for number in data_samples]


class Collected(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += zip(data_batch['data_samples'], data_samples)

    def compute_metrics(self, results):
        assert all(number == found for number, (found, _) in results)
        return {'found': [found for _, found in results]}


@pytest.mark.parametrize('split', ['val', 'test'])
def test_each_size_runs_alone_and_each_image_once(split, tmp_path):
    images = [
        {'inputs': torch.zeros(3, *size), 'data_samples': number}
        for number, size in enumerate(SIZES)
    ]
    loader = torch.utils.data.DataLoader(images, batch_size=4, collate_fn=pseudo_collate)
    loop = dict(type=f'{split.capitalize()}LoopByImageSize')
    parts = {
        f'{split}_dataloader': loader,
        f'{split}_cfg': loop,
        f'{split}_evaluator': Evaluator(Collected()),
    }
    runner = Runner(Sizes(), str(tmp_path), experiment_name=tmp_path.name, **parts)
    calls = []
    runner.call_hook = lambda name, **_: calls.append(name)
    metrics = getattr(runner, split)()
    # in the order of the images: a distributed evaluation cuts off what its sampler added at the end
    assert metrics == {'found': list(enumerate(SIZES))}
    assert calls.count(f'before_{split}_iter') == calls.count(f'after_{split}_iter') == 2
