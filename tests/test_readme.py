"""What the README shows works as it stands there."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope

from tests.helpers.pages import blocks

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / 'README.md').read_text()
CONFIGS = [block for block in blocks('README.md') if '_base_' in block]


def test_there_is_a_config_for_each_library():
    assert len(CONFIGS) == 2


@pytest.mark.parametrize('text', CONFIGS, ids=['mmdet', 'mmseg'])
def test_config_builds_and_its_backbone_fits(text, tmp_path):
    checkout = Path(find_spec('mmseg').origin).parent / '.mim' / 'configs'
    path = tmp_path / 'configs' / 'my_project' / 'config.py'
    path.parent.mkdir(parents=True)
    (tmp_path / 'configs' / '_base_').symlink_to(checkout / '_base_')
    path.write_text(text)
    cfg = Config.fromfile(path)
    __import__(cfg.default_scope)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    features = model.extract_feat(torch.randn(1, 3, 64, 96))
    if cfg.default_scope == 'mmdet':
        assert [feature.shape[1] for feature in features] == [256] * 5
    else:
        logits = revert_sync_batchnorm(model).eval().decode_head(features)
        assert logits.shape == (1, 150, 16, 24)


def test_configs_train_with_adamw():
    assert all("type='AdamW'" in text for text in CONFIGS)


def test_the_forward_pass_prints_what_it_shows(capsys):
    (block,) = [b for b in blocks('README.md') if 'print(' in b]
    exec(compile(block, 'README.md', 'exec'), {})
    assert f'# {capsys.readouterr().out.strip()}' in block


def test_the_model_that_ships_draws_what_it_sees(tmp_path, monkeypatch):
    (block,) = [b for b in blocks('README.md') if 'Inferencer' in b]
    (tmp_path / 'projects').symlink_to(ROOT / 'projects')
    monkeypatch.chdir(tmp_path)
    exec(compile(block, 'README.md', 'exec'), {})
    drawn = {path.name for path in (tmp_path / 'seen').iterdir()}
    assert drawn == {
        'predictions.json',
        *(path.name for path in (ROOT / 'projects/demo/pictures').iterdir()),
    }


def test_it_is_short():
    assert len(TEXT.split()) <= 900


def test_no_blank_was_left_to_fill_in():
    assert not re.search(r'\bDEMO_[A-Z]+\b', TEXT)


def test_every_make_target_it_names_is_there():
    targets = re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.M)
    named = set(re.findall(r'(?:^|`)make ([a-z]+)', TEXT, re.M))
    assert {'demo', 'test'} <= named
    assert named <= set(targets)
