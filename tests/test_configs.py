"""Every config builds, trains a step and predicts; a new one is covered by being there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from weightformer_mm import datasets

CONFIGS = Path(__file__).parent.parent / 'configs'
FILES = sorted(path for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)
SHAPES_DATA = sorted(CONFIGS.glob('_base_/datasets/shapes_*.py'))


def on_generated_data(path: Path, data: Path, work_dir: Path) -> Config:
    """The config with its data replaced by a small set, to train one step and then validate."""
    cfg = Config.fromfile(path)
    cfg.work_dir = str(work_dir)
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.num_workers, loader.persistent_workers = 0, False
        loader.dataset.data_root = f'{data}/'
        loader.dataset.indices = min(2, loader.batch_size) if split == 'train' else 1
    if 'ann_file' in cfg.val_evaluator:
        cfg.val_evaluator.ann_file = str(data / 'annotations' / 'instances_val.json')
        cfg.test_evaluator.ann_file = cfg.val_evaluator.ann_file
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1, val_interval=1)
    cfg.param_scheduler = None
    cfg.default_hooks.logger.interval = 1
    return cfg


def test_there_are_configs_for_both_tasks_and_both_backbones():
    names = [path.stem for path in FILES if path.parent.name == 'shapes']
    for head in ('mask-rcnn', 'upernet'):
        for backbone in ('pyramid-weightformer', 'weightformer'):
            assert any(name.startswith(f'{head}_{backbone}-') for name in names), (head, backbone)


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_trains_a_step_and_predicts(path, shapes, tmp_path):
    runner = Runner.from_cfg(on_generated_data(path, shapes, tmp_path))
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
    assert any('mAP' in name or 'mIoU' in name for name in logged)


@pytest.mark.parametrize('path', SHAPES_DATA, ids=lambda path: path.stem)
def test_shapes_classes_are_the_generators(path):
    cfg = Config.fromfile(path)
    background = 'segmentation' in path.stem
    names = datasets.SEG_CLASSES if background else datasets.CLASSES
    palette = datasets.SEG_PALETTE if background else datasets.PALETTE
    assert tuple(cfg.metainfo.classes) == names
    assert [tuple(colour) for colour in cfg.metainfo.palette] == list(palette)


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
