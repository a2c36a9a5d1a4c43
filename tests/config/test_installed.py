"""Recipes by ``PACKAGE::FILE``, through mmengine and through the commands, from any folder."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.hub import get_config, get_model

from weightformer_mm.config.read import RECIPES, load_config
from weightformer_mm.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
COCO = 'coco/mask-rcnn_pyramid-weightformer-tiny_fpn_1x_coco.py'
CONFIGS = sorted(path for path in ROOT.glob('configs/*/*.py') if path.parts[-2] != '_base_')


@pytest.fixture
def based_on(tmp_path):
    """A function that writes a config on the given base, anywhere."""

    def write(base: str, text: str = '') -> Path:
        path = tmp_path / 'mine.py'
        path.write_text(f'_base_ = {base!r}\n{text}')
        return path

    return write


def test_a_base_of_this_package_is_as_a_file(based_on):
    """No part of it is looked up in a scope of this package, which has no registries."""
    cfg = Config.fromfile(based_on(f'weightformer_mm::{COCO}', 'backbone = _base_.model.backbone'))
    expected = Config.fromfile(ROOT / 'configs' / COCO)
    assert cfg.model == expected.model and cfg.default_hooks == expected.default_hooks
    assert cfg.backbone.arch == 'tiny' and "'weightformer_mm'" not in str(cfg.optim_wrapper)


@pytest.mark.parametrize('name', [COCO, 'shapes/upernet_pyramid-weightformer-micro_shapes.py'])
def test_mmengine_gives_the_config(name):
    """The first is in a metafile, the second is not."""
    cfg = get_config(f'weightformer_mm::{name}')
    assert Path(cfg.filename) == ROOT / 'weightformer_mm/.mim/configs' / name


@pytest.mark.parametrize(
    ('name', 'library'),
    [
        ('mask-rcnn_pyramid-weightformer-micro_fpn_shapes', 'mmdet'),
        ('upernet_pyramid-weightformer-micro_shapes', 'mmseg'),
        ('pyramid-weightformer-micro_shapes', 'mmpretrain'),
    ],
)
def test_mmengine_gives_the_model(name, library):
    """Its parts come from its library, though mmengine builds it in the scope of this package."""
    model = get_model(f'weightformer_mm::shapes/{name}.py')
    assert type(model).__module__.startswith(f'{library}.models')
    head = next(module for key, module in model.named_children() if key.endswith('head'))
    assert type(head).__module__.startswith(f'{library}.models')
    assert type(model.backbone).__module__.startswith('weightformer_mm.')


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_model_names_its_library(path):
    cfg = Config.fromfile(path)
    assert cfg.model._scope_ == cfg.default_scope


@pytest.mark.parametrize(
    ('library', 'name'),
    [
        ('mmdet', 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'),
        ('mmseg', 'segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py'),
        ('mmpretrain', 'resnet/resnet18_8xb32_in1k.py'),
    ],
)
def test_bases_of_the_libraries_are_found(library, name, based_on):
    """With the onedl builds too, whose distributions have other names."""
    cfg = load_config(based_on(f'{library}::{name}'))
    assert cfg.model._scope_ == cfg.default_scope == library


def test_commands_take_the_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    cfg = load_config(f'weightformer_mm::{COCO}', ['model.backbone.drop_path_rate=0.3'])
    assert (cfg.model.backbone.drop_path_rate, Path(cfg.filename).name) == (0.3, Path(COCO).name)


def test_a_path_is_no_name(tmp_path):
    with pytest.raises(UserError, match='config not found: .*/pyramid-weightformer-micro_shapes$'):
        load_config(tmp_path / 'pyramid-weightformer-micro_shapes')


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('weightformer_mm::coco/none.py', f'no recipe coco/none.py; see {RECIPES}'),
        ('mmdet::none/none.py', 'none/none.py'),
        ('mmnone::a/b.py', 'does not support to load mmnone'),
        ('a::b', 'specify the package name'),
    ],
)
def test_what_is_not_there_is_named(name, words, based_on):
    with pytest.raises(UserError) as problem:
        load_config(name)
    assert str(problem.value).startswith(f'config not found: {name}: ')
    assert words in str(problem.value)
    if find_spec(name.partition('::')[0]):
        with pytest.raises(UserError, match='none.py'):
            load_config(based_on(name))
