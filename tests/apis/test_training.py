"""The way from a config to a runner, for somebody who reads along."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import weightformer_mm
from tests.helpers.commands import DETECTION, SEGMENTATION
from weightformer_mm.apis import training as api
from weightformer_mm.apis.check_dataset import check_dataset
from weightformer_mm.errors import UserError

PACKAGE = Path(weightformer_mm.__file__).parent
OF_THE_MODEL = {'ops', 'layers', 'backbones', 'necks', 'data_preprocessors'}
MOST_FILES = (
    12  # three of them only say what is wrong with a config: its values, its options, its parts
)


class Built(BaseException):
    """Ends a training when its runner is there."""


@pytest.mark.parametrize(
    ('config', 'library'),
    [(DETECTION, 'mmdet.models'), (SEGMENTATION, 'mmseg.models')],
    ids=['detection', 'segmentation'],
)
def test_few_files_lie_between_a_config_and_its_runner(
    config, library, shapes, tmp_path, monkeypatch
):
    (tmp_path / 'config.py').write_text(f'_base_ = {str(config)!r}\n')
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/shapes').symlink_to(shapes)
    called = set()

    def note(frame, event, argument):
        called.add(frame.f_code)

    importlib.import_module(library)  # its imports are no part of the way
    build = api.build_runner

    def stop_when_built(cfg):
        build(cfg)
        raise Built

    monkeypatch.setattr(api, 'build_runner', stop_when_built)
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        with pytest.raises(Built):
            api.train('config.py', 'work')
    finally:
        sys.setprofile(before)
    paths = {Path(code.co_filename) for code in called if code.co_name != '<module>'}
    files = {path.relative_to(PACKAGE) for path in paths if PACKAGE in path.parents}
    passed = {file for file in files if file.parts[0] not in OF_THE_MODEL}
    assert Path('engine/runner/runner.py') in passed
    assert len(passed) <= MOST_FILES, ' '.join(sorted(map(str, passed)))


def test_a_config_changed_in_python(shapes, tmp_path, monkeypatch):
    cfg = Config.fromfile(SEGMENTATION)
    cfg.train_cfg.max_epochs = 7
    built = []

    def stop(cfg):
        built.append(cfg)
        raise Built

    monkeypatch.setattr(api, 'build_runner', stop)
    with pytest.raises(Built):
        weightformer_mm.apis.train(cfg, tmp_path / 'work', data_root=shapes)
    assert built[0].train_cfg.max_epochs == 7
    assert built[0].train_dataloader.dataset.data_root == f'{shapes}/'
    assert cfg.train_dataloader.dataset.data_root == 'data/shapes/'


@pytest.mark.parametrize(
    ('option', 'need'),
    [
        ('sync_bn=torch', '--launcher'),
        ('env_cfg.dist_cfg.backend=gloo', '--launcher'),
        ('strategy.type=FSDPStrategy', 'runner_type=FlexibleRunner'),
        ('auto_scale_lr.base_batch_size=8', '--auto-scale-lr'),
    ],
)
def test_an_option_that_this_run_does_not_read_is_refused(option, need, shapes, tmp_path):
    with pytest.raises(
        UserError, match=f'{option.partition("=")[0]}: has no effect without {need}'
    ):
        api.train(str(SEGMENTATION), str(tmp_path), options=[option], data_root=str(shapes))


def test_a_factor_for_parameters_that_are_not_there_is_refused(shapes, tmp_path):
    options = ['optim_wrapper.paramwise_cfg.custom_keys.bakbone.lr_mult=0.1']
    with pytest.raises(UserError, match='no parameter of the model has bakbone in its name'):
        api.train(str(SEGMENTATION), str(tmp_path), options=options, data_root=str(shapes))


def test_a_teacher_and_a_student(tiny_set, tmp_path):
    """mmdet's semi-supervised training: several branches of one image, two detectors in one model."""
    config = DETECTION.parent / 'soft-teacher_pyramid-weightformer-micro_shapes.py'
    check_dataset(str(config), data_root=str(tiny_set))
    api.train(str(config), str(tmp_path), data_root=str(tiny_set))
    weights = torch.load(tmp_path / 'iter_2.pth', weights_only=True)['state_dict']
    name = 'neck.lateral_convs.0.conv.weight'
    assert weights[f'student.{name}'].isfinite().all()
    moved = (weights[f'student.{name}'] - weights[f'teacher.{name}']).abs().max()
    assert 0 < moved < 0.1
