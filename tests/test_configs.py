"""Every config builds, trains a step and predicts; a new one is covered by being there."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

from tests.helpers.reduced import FACTORS
from weightformer_mm.datasets.shapes import classes

CONFIGS = Path(__file__).parent.parent / 'configs'
# those of configs/imagenet are in test_imagenet_configs.py
FILES = sorted([*CONFIGS.glob('shapes/*.py'), *CONFIGS.glob('context/*.py')])
SHAPES_DATA = sorted(CONFIGS.glob('_base_/datasets/shapes_*.py'))


def on_generated_data(path: Path, data: Path, work_dir: Path) -> Config:
    """The config with its data replaced by a small set, to train one step and then validate."""
    cfg = Config.fromfile(path)
    cfg.work_dir = str(work_dir)
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.num_workers, loader.persistent_workers = 0, False
        loader.dataset.data_root = f'{data}/'
        loader.batch_size = min(2, loader.batch_size)
        loader.dataset.indices = loader.batch_size if split == 'train' else 1
    if 'ann_file' in cfg.val_evaluator:
        cfg.val_evaluator.ann_file = str(data / 'annotations' / 'instances_val.json')
        cfg.test_evaluator.ann_file = cfg.val_evaluator.ann_file
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1, val_interval=1)
    cfg.param_scheduler = None
    cfg.default_hooks.logger.interval = 1
    if cfg.optim_wrapper.optimizer.get('opt') == 'nmuon':
        cfg.optim_wrapper.optimizer.ns_steps = 1  # five of them take seconds on one core
    return cfg


@pytest.fixture(scope='module')
def classifier(tmp_path_factory) -> Path:
    """A checkpoint of the classifier that the pretrained detector begins with."""
    cfg = Config.fromfile(CONFIGS / 'shapes/pyramid-weightformer-micro_shapes.py')
    import_module('mmpretrain.models')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    model.init_weights()
    path = tmp_path_factory.mktemp('classifier') / 'epoch_7.pth'
    torch.save({'state_dict': model.state_dict()}, path)
    return path


def data_of(path: Path, request) -> Path:
    if path.parent.name == 'context':
        return request.getfixturevalue('context_shapes')
    single = Config.fromfile(path).default_scope == 'mmpretrain'
    return request.getfixturevalue('single_shapes' if single else 'shapes')


def use_classifier(cfg: Config, classifier: Path) -> None:
    init_cfg = cfg.model.backbone.get('init_cfg')
    if isinstance(init_cfg, dict):
        assert init_cfg.type == 'Pretrained'
        init_cfg.checkpoint = str(classifier)


def test_every_config_is_tested():
    folders = {path.parent for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts}
    names = {path.name for path in folders}
    # the others are in test_recipes.py
    assert names == {'shapes', 'context', 'imagenet', *FACTORS}


@pytest.mark.parametrize('name', ['shapes', 'context', 'imagenet', *FACTORS])
def test_runs_resume_exactly(name):
    assert Config.fromfile(min((CONFIGS / name).glob('*.py'))).exact_resume


def test_there_are_configs_for_both_tasks_and_both_backbones():
    names = [path.stem for path in FILES if path.parent.name == 'shapes']
    for head in ('mask-rcnn', 'upernet'):
        for backbone in ('pyramid-weightformer', 'weightformer'):
            assert any(name.startswith(f'{head}_{backbone}-') for name in names), (head, backbone)


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_trains_a_step_and_predicts(path, request, classifier, tmp_path):
    cfg = on_generated_data(path, data_of(path, request), tmp_path)
    use_classifier(cfg, classifier)
    runner = Runner.from_cfg(cfg)
    parts = [runner.model.backbone] + ([runner.model.neck] if runner.model.with_neck else [])
    learned = [(name, p) for part in parts for name, p in part.named_parameters()]
    before = [parameter.detach().clone() for _, parameter in learned]
    runner.train()
    unchanged = [
        name for (name, parameter), old in zip(learned, before) if torch.equal(parameter, old)
    ]
    assert not unchanged
    assert all(torch.isfinite(parameter).all() for _, parameter in learned)
    scalars = next(tmp_path.glob('*/vis_data/scalars.json')).read_text().splitlines()
    logged = {name: value for line in scalars for name, value in json.loads(line).items()}
    assert logged['loss'] > 0
    assert any(metric in name for name in logged for metric in ('mAP', 'mIoU', 'top1'))


PALETTE = (
    (230, 60, 60),
    (250, 150, 30),
    (60, 180, 75),
    (65, 110, 230),
    (240, 220, 50),
    (170, 70, 220),
)
CONTEXT_PALETTE = [(230, 60, 60), (65, 110, 230), (250, 150, 30), (60, 180, 200)]


def test_names_and_colours_match():
    assert len(PALETTE) == len(classes.CLASSES) == len(set(PALETTE))


@pytest.mark.parametrize('path', SHAPES_DATA, ids=lambda path: path.stem)
def test_shapes_classes_are_the_generators(path):
    cfg = Config.fromfile(path)
    names = classes.CONTEXT_CLASSES if 'context' in path.stem else classes.CLASSES
    segments = cfg.dataset_type == 'BaseSegDataset'
    assert tuple(cfg.metainfo.classes) == (('background', *names) if segments else names)
    if cfg.dataset_type != 'CustomDataset':  # a classifier colours nothing
        palette = CONTEXT_PALETTE if 'context' in path.stem else PALETTE
        expected = [(90, 90, 90), *palette] if segments else list(palette)
        assert [tuple(colour) for colour in cfg.metainfo.palette] == expected
        assert len(set(expected)) == len(cfg.metainfo.classes)


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_heads_have_as_many_classes_as_the_data(path):
    cfg = Config.fromfile(path)
    classes = len(cfg.train_dataloader.dataset.metainfo.classes)

    def declared(node):
        if isinstance(node, dict):
            for key, value in node.items():
                yield from [value] if key == 'num_classes' else declared(value)

    found = set(declared(cfg.model.to_dict() if hasattr(cfg.model, 'to_dict') else dict(cfg.model)))
    assert found == {classes}


def test_the_hard_version_differs_in_its_data_alone():
    easy, hard = (
        Config.fromfile(CONFIGS / f'context/fcn_pyramid-weightformer-micro_context{end}.py')
        for end in ('', '-hard')
    )
    changed = {'data_root', 'prepare_data', '_base_'}
    for cfg in (easy, hard):
        folder = cfg.data_root.rstrip('/')
        assert f'--out {folder} ' in cfg.prepare_data
        for split in ('train', 'val', 'test'):
            assert cfg[f'{split}_dataloader'].dataset.pop('data_root') == cfg.data_root
    easy, hard = (
        {key: value for key, value in cfg.to_dict().items() if key not in changed}
        for cfg in (easy, hard)
    )
    assert easy == hard


def test_the_classifier_and_its_detector_fit(classifier):
    """The names and the epoch of the checkpoint, and every weight in it."""
    path = CONFIGS / 'shapes/mask-rcnn_pyramid-weightformer-micro-pretrained_fpn_shapes.py'
    cfg, source = (
        Config.fromfile(name)
        for name in (path, path.with_name('pyramid-weightformer-micro_shapes.py'))
    )
    init_cfg = cfg.model.backbone.init_cfg
    work_dir, epochs = Path(source.filename).stem, source.train_cfg.max_epochs
    assert init_cfg.checkpoint == f'work_dirs/{work_dir}/epoch_{epochs}.pth'
    use_classifier(cfg, classifier)
    backbone = MODELS.build(cfg.model.backbone)
    backbone.init_weights()
    saved = torch.load(classifier, weights_only=True)['state_dict']
    own = backbone.state_dict()
    common = {name[len('backbone.') :] for name in saved if name.startswith('backbone.')}
    assert {name for name in own if name not in common} == {
        f'norm{index}.{part}' for index in range(3) for part in ('weight', 'bias')
    }
    assert all(torch.equal(own[name], saved[f'backbone.{name}']) for name in common)


def test_the_pretrained_detector_differs_from_the_demos_in_its_first_weights_alone():
    path = CONFIGS / 'shapes/mask-rcnn_pyramid-weightformer-micro-pretrained_fpn_shapes.py'
    twins = [
        Config.fromfile(name).to_dict()
        for name in (path, path.with_name('mask-rcnn_pyramid-weightformer-micro_fpn_shapes.py'))
    ]
    inits = [twin['model']['backbone'].pop('init_cfg') for twin in twins]
    assert twins[0] == twins[1] and inits[0] != inits[1]
