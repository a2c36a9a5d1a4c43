"""Which runs there are, and that each differs from the recipe in what its name says."""

from __future__ import annotations

from functools import cache
from importlib import import_module

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.runner import Runner

from projects.real_pictures.mixing import CopyPasteWithinTheSet
from projects.real_pictures.networks import MAIN, PEERS, STRATEGIES
from projects.real_pictures.plan import (
    COMPARED,
    METRICS,
    RATES,
    SEEDS,
    Run,
    all_runs,
    best_rate,
    comparisons,
    files_of,
    score,
    searches,
    whole_recipes,
)
from projects.real_pictures.recipes import CHANGES
from projects.runs import digest_of
from tests.helpers.real_layouts import make_camvid, make_nuclei
from tests.helpers.reduced import reduce_counts, reduce_sizes
from weightformer_mm.apis.complexity import complexity_of_config
from weightformer_mm.config.options import use_data_root

CLASS_WEIGHTS = {
    'model.decode_head.loss_decode.class_weight',
    'model.auxiliary_head.loss_decode.class_weight',
}
# what is another in the config of a change, of CamVid and of nuclei alike
DIFFERENCES = {
    'no-ema': {'default_hooks.ema'},
    'adamw': {'optim_wrapper.optimizer'},
    'published-init': {'model.backbone.init_cfg'},
    'drop-path': {'model.backbone.drop_path_rate'},
    'no-class-weights': CLASS_WEIGHTS,
    'enets-class-weights': CLASS_WEIGHTS,
    'ohem': {'model.decode_head.sampler'},
    'lovasz': {'model.decode_head.loss_decode'},
    'whole-images': {'model.data_preprocessor.type'},
}
# the kinds of steps that a change takes from the pipeline, and those that it adds
STEPS = {
    'whole-image': ({'RandomResize', 'RandomCrop'}, {'Resize'}),
    'one-scale': ({'RandomChoice'}, set()),
    'no-flip': ({'RandomFlip'}, set()),
    'no-flips-or-turns': ({'RandomFlip', 'Rotate'}, set()),
    'no-colour': ({'PhotoMetricDistortion'}, set()),
    'no-inversion': ({'Invert'}, set()),
    'copy-paste': (set(), {'CopyPasteWithinTheSet'}),
    'whole-images': ({'RandomChoice', 'RandomCrop', 'Pad', 'Rotate'}, set()),
    'whole-images-padded': ({'RandomChoice', 'RandomCrop', 'Pad', 'Rotate'}, set()),
}
CHANGED = [Run(data, change=name) for data in METRICS for name in CHANGES[data]]


def each(runs):
    return pytest.mark.parametrize('run', runs, ids=lambda run: run.name)


@cache
def config_of(run: Run) -> Config:
    return run.load_config()


def flat(node, prefix=''):
    """The leaves of a config by their dotted keys; the list of a pipeline or of weights is a leaf."""
    if not isinstance(node, dict) or not node:
        return {prefix: node}
    leaves = {}
    for key, value in node.items():
        leaves.update(flat(value, f'{prefix}.{key}' if prefix else key))
    return leaves


def differences(one: Config, other: Config) -> set[str]:
    one, other = flat(one.to_dict()), flat(other.to_dict())
    return {key for key in one.keys() | other.keys() if one.get(key, '-') != other.get(key, '-')}


def steps(cfg: Config) -> list[str]:
    """The kinds of the steps in the training pipelines, inner ones first."""
    dataset, kinds = cfg.train_dataloader.dataset, []
    while dataset is not None:
        kinds[:0] = [step['type'] for step in dataset.pipeline]
        dataset = dataset.get('dataset')
    return kinds


def test_no_run_is_made_twice():
    runs = all_runs(dict.fromkeys((run.name for run in all_runs({})), 0.5))
    assert len({run.name for run in runs}) == len(runs) == len(set(runs))


@pytest.mark.parametrize('data', METRICS)
def test_networks_are_compared_at_their_best_learning_rate(data):
    scores = {run.name: 0.5 for run in searches(data)}
    best = dict(zip(COMPARED, RATES * 2))
    for name, rate in best.items():
        scores[Run(data, name, rate).name] = 0.6
    runs = comparisons(data, scores)
    for name, rate in best.items():
        own = [run for run in runs if run.network == name]
        assert [(run.rate, run.seed) for run in own] == [(rate, seed) for seed in SEEDS]
    alone = [run for run in runs if run.network not in COMPARED]
    assert {run.network for run in alone} == STRATEGIES.keys() - set(MAIN)
    assert {run.rate for run in alone} == {best['published']}


def test_a_search_that_is_not_over_decides_nothing():
    scores = {run.name: 0.5 for run in searches('camvid') if run.network != 'swin'}
    scores[Run('camvid', 'swin', RATES[0]).name] = 0.9
    assert best_rate('camvid', 'swin', scores) is None
    assert 'swin' not in {run.network for run in comparisons('camvid', scores)}


def test_a_training_that_diverged_counts_as_nothing():
    assert score({'data': 'camvid', 'metrics': {}, 'diverged': 'loss is nan'}) == 0.0
    assert score({'data': 'nuclei', 'metrics': {'coco/nucleus_precision': None}}) == 0.0
    assert score({'data': 'camvid', 'metrics': {'mIoU': 62.5}}) == 0.625


@cache
def costs(run: Run) -> tuple[int, ...]:
    shapes = [(180, 240), (360, 480)] if run.data == 'camvid' else [(256, 256)]
    _, found = complexity_of_config(config_of(run), shapes, backbone=True)
    return (found[0].total.parameters, *(each.total.multiply_adds for each in found))


# Swin pads to its windows; the cost of convolutions follows the size
@each([Run('nuclei', name) for name in PEERS] + [Run('camvid', 'swin')])
def test_peers_cost_the_same(run):
    for own, peer in zip(costs(Run(run.data)), costs(run)):
        assert 0.9 <= peer / own <= 1.1


@each(CHANGED)
def test_a_change_is_what_its_name_says(run):
    cfg, recipe = config_of(run), config_of(Run(run.data))
    if run.change in STEPS:
        gone, new = STEPS[run.change]
        assert (set(steps(recipe)) - set(steps(cfg)), set(steps(cfg)) - set(steps(recipe))) == (
            gone,
            new,
        )
        allowed = {'train_dataloader.dataset', 'custom_imports.imports'}
        allowed |= DIFFERENCES.get(run.change, set())
        kept = [kind for kind in steps(cfg) if kind not in new]
        assert kept == [kind for kind in steps(recipe) if kind not in gone]
    else:
        allowed = DIFFERENCES[run.change]
    found = differences(cfg, recipe)
    assert found and all(any(key.startswith(name) for name in allowed) for key in found)


@each([Run(data, rate=2.5, seed=1) for data in METRICS])
def test_rate_and_seed(run):
    assert differences(config_of(run), config_of(Run(run.data))) == {
        'optim_wrapper.optimizer.lr',
        'randomness.seed',
    }
    assert config_of(run).randomness.seed == 1
    rates = [config_of(each).optim_wrapper.optimizer.lr for each in (run, Run(run.data))]
    assert rates[0] == pytest.approx(2.5 * rates[1])


@pytest.mark.parametrize('data', METRICS)
def test_the_test_part_is_left_alone(data):
    for run in [*whole_recipes(data), Run(data)]:
        cfg = config_of(run)
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


def small_config(run: Run, pictures) -> Config:
    cfg = run.load_config()
    use_data_root(cfg, pictures / run.data)
    reduce_sizes(cfg, 0.3)
    reduce_counts(cfg.model)
    cfg.train_dataloader.batch_size = 2
    import_module(f'{cfg.default_scope}.datasets')
    return cfg


@each(
    [Run('camvid', change=name) for name in (None, 'no-class-weights', 'ohem')]
    + [Run('camvid', 'swin')]
    + [Run('nuclei', name) for name in ('convnext', 'resnet')]
)
def test_the_loss_reaches_the_first_weights(pictures, run):
    cfg = small_config(run, pictures)
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


def test_class_weights_are_those_of_the_shares():
    """Pixels of each class in CamVid's training part, in per cent, void left out."""
    shares = np.array((17.5, 24.2, 1.0, 33.0, 4.7, 10.1, 1.2, 1.2, 6.1, 0.7, 0.3))
    shares /= shares.sum()
    for run, offset in ((Run('camvid'), 1.1), (Run('camvid', change='enets-class-weights'), 1.02)):
        for head in ('decode_head', 'auxiliary_head'):
            weights = config_of(run).model[head].loss_decode.class_weight
            # two digits of 2.8 are exact to 0.2 %; ENet's are computed from such, and rounded again
            np.testing.assert_allclose(weights, 1 / np.log(offset + shares), rtol=0.004)


def test_pasted_nuclei_have_boxes_and_masks(pictures):
    cfg = small_config(Run('nuclei', change='copy-paste'), pictures)
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    for index in 10 * [*range(len(dataset))]:
        sample = dataset[index]
        found = sample['data_samples'].gt_instances
        assert sample['inputs'].shape[1:] == found.masks.masks.shape[1:] == (64, 64)
        assert len(found.bboxes) == len(found.masks) == len(found.labels)


def test_pasting_draws_no_image_that_is_not_there():
    assert {CopyPasteWithinTheSet().get_indexes(range(2)) for _ in range(50)} == {0, 1}


def test_hard_pixels_are_few_where_the_network_is_sure():
    cfg = Run('camvid', change='ohem').load_config()
    with DefaultScope.overwrite_default_scope('mmseg'):
        head = MODELS.build({**cfg.model.decode_head, 'in_channels': [8] * 4, 'channels': 8})
    height, width = cfg.model.data_preprocessor.size
    torch.manual_seed(0)
    labels = torch.randint(0, 11, (2, 1, height, width))
    logits = 6 * torch.nn.functional.one_hot(labels[:, 0], 11).permute(0, 3, 1, 2).float()
    logits += torch.randn_like(logits)
    weights = head.sampler.sample(logits, labels)
    assert weights.mean() == pytest.approx(0.2, abs=0.01)


def test_tables_of_swin_are_not_made_orthogonal():
    cfg = Run('camvid', 'swin').load_config()
    with DefaultScope.overwrite_default_scope('mmseg'):
        backbone = MODELS.build(cfg.model.backbone)
    groups = build_optim_wrapper(backbone, cfg.optim_wrapper).optimizer.param_groups
    group_of = {id(p): group for group in groups for p in group['params']}
    for name, parameter in backbone.named_parameters():
        group = group_of[id(parameter)]
        is_table = name.endswith('relative_position_bias_table')
        assert bool(group.get('use_fallback')) == is_table
        if is_table:
            assert group['weight_decay'] == 0.0


def test_data_and_config_decide_the_digest(pictures):
    cfg = small_config(Run('nuclei'), pictures)
    before = digest_of(cfg, files_of(cfg))
    assert digest_of(cfg, files_of(cfg)) == before
    cfg.max_epochs += 1
    changed = digest_of(cfg, files_of(cfg))
    (pictures / 'nuclei/train/more.png').touch()
    assert len({before, changed, digest_of(cfg, files_of(cfg))}) == 3
    (pictures / 'nuclei/train/more.png').unlink()
