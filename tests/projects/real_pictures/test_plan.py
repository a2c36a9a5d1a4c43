"""Which runs there are, and that each differs from the recipe in what its name says."""

from __future__ import annotations

from functools import cache
from importlib import import_module

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

from projects.real_pictures.networks import MAIN, PEERS, STRATEGIES
from projects.real_pictures.plan import (
    METRICS,
    RATES,
    SEEDS,
    Run,
    ablations,
    all_runs,
    best_rate,
    comparisons,
    recipes,
    searches,
)
from tests.helpers.real_layouts import make_camvid, make_nuclei
from tests.helpers.reduced import reduce_backbone, reduce_counts, reduce_sizes
from weightformer_mm.apis.complexity import complexity_of_config
from weightformer_mm.config.options import use_data_root

CHANGED = [run for data in METRICS for run in ablations(data)[1:]]
COMPARED = [Run(data, name) for data in METRICS for name in SEEDS]


def each(runs):
    return pytest.mark.parametrize('run', runs, ids=lambda run: run.name)


@cache
def recipe_of(data: str) -> Config:
    return Run(data).load_config()


def test_no_run_is_made_twice():
    runs = all_runs(dict.fromkeys((run.name for run in all_runs({})), 0.5))
    assert len({run.name for run in runs}) == len(runs) == len(set(runs))


@pytest.mark.parametrize('data', METRICS)
def test_networks_are_compared_at_their_best_learning_rate(data):
    scores = {run.name: 0.5 for run in searches(data)}
    best = dict(zip(SEEDS, [0.5, 1.0, 2.0] * len(SEEDS)))
    for name, rate in best.items():
        scores[Run(data, name, rate).name] = 0.6
    runs = comparisons(data, scores)
    for name, rate in best.items():
        seeds = [run.seed for run in runs if run.network == name]
        assert seeds == list(range(3 if name in MAIN else 2))
        assert {run.rate for run in runs if run.network == name} == {rate}
    alone = [run for run in runs if run.network not in SEEDS]
    assert {run.network for run in alone} == STRATEGIES.keys() - set(MAIN)
    assert {run.rate for run in alone} == {best['published']}


def test_a_search_that_is_not_over_decides_nothing():
    scores = {run.name: 0.5 for run in searches('camvid') if run.network != 'swin'}
    scores[Run('camvid', 'swin', RATES[0]).name] = 0.9
    assert best_rate('camvid', 'swin', scores) is None
    assert 'swin' not in {run.network for run in comparisons('camvid', scores)}


@pytest.mark.parametrize('data', METRICS)
def test_every_search_has_as_many_runs(data):
    runs = searches(data)
    assert {name: sum(run.network == name for run in runs) for name in SEEDS} == dict.fromkeys(
        SEEDS, len(RATES)
    )


@cache
def backbone_cost(run: Run):
    _, (complexity,) = complexity_of_config(run.load_config(), [(256, 256)], backbone=True)
    return complexity.total


@each([Run('nuclei', name) for name in PEERS])
def test_peers_cost_the_same(run):
    own, peer = backbone_cost(Run(run.data)), backbone_cost(run)
    assert 0.9 <= peer.parameters / own.parameters <= 1.1
    assert 0.9 <= peer.multiply_adds / own.multiply_adds <= 1.1


@each([Run(data, rate=2.0, seed=1) for data in METRICS] + CHANGED + COMPARED)
def test_only_what_the_name_says_differs(run):
    cfg, recipe = run.load_config(), recipe_of(run.data)
    assert cfg.randomness.seed == run.seed
    assert (
        run.recipe or cfg.optim_wrapper.optimizer.lr == run.rate * recipe.optim_wrapper.optimizer.lr
    )
    assert (cfg.dump() == recipe.dump()) == (run == Run(run.data))
    changed = {key for key in cfg if cfg[key] != recipe[key]} - {'randomness'}
    allowed = {'model'} if run.network != 'published' else {'optim_wrapper'}
    if run.recipe:
        allowed = {'model', 'default_hooks', 'train_dataloader', 'optim_wrapper'}
    assert changed <= allowed


@pytest.mark.parametrize('data', METRICS)
def test_the_test_part_is_left_alone(data):
    for run in [*recipes(data), Run(data)]:
        cfg = run.load_config()
        for loader in filter(None, (cfg.val_dataloader, cfg.test_dataloader)):
            assert loader.dataset.data_prefix in (
                dict(img_path='val', seg_map_path='valannot'),
                dict(img='val/'),
            )


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp('real')
    make_camvid(folder / 'camvid', train=3, val=1, size=(48, 64))
    make_nuclei(folder / 'nuclei', train=3, val=1, size=(64, 80))
    return folder


# what no other test trains with: other parts, or data that are made in another way
NEW = [Run('camvid', recipe=name) for name in ('class-weights', 'ohem')]
NEW += [Run('nuclei', recipe=name) for name in ('mosaic', 'copy-paste')]
NEW += [Run('camvid', 'swin'), Run('nuclei', 'convnext'), Run('nuclei', 'resnet')]


@each(NEW)
def test_the_loss_reaches_the_first_weights(pictures, run):
    cfg = run.load_config()
    use_data_root(cfg, pictures / run.data)
    reduce_sizes(cfg, 0.3)
    if run.network not in PEERS:
        reduce_backbone(cfg.model)
    reduce_counts(cfg.model)
    cfg.train_dataloader.batch_size = 2
    import_module(f'{cfg.default_scope}.datasets')
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        model.train()
        batch = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=0)))
        losses = model(**model.data_preprocessor(batch, True), mode='loss')
        loss, _ = model.parse_losses(losses)
    loss.backward()
    first = next(model.backbone.parameters()).grad
    assert loss.isfinite() and first.isfinite().all() and first.any()
