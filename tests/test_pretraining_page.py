"""What docs/pretraining.md says is so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

import weightformer_mm.backbones  # noqa: F401  registers them
from tests.helpers.pages import blocks

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / 'docs/pretraining.md').read_text()
DETECTOR, SEGMENTOR = blocks('docs/pretraining.md')


def test_every_file_it_names_is_there():
    paths = re.findall(r'\b(?:configs|tools)/[\w./-]+\.py', TEXT)
    paths += [f'configs/imagenet/{name}.py' for name in re.findall(r'`([\w-]+_in1k[\w-]*)`', TEXT)]
    paths += [f'docs/{name}' for name in re.findall(r'\]\((\w+\.md)', TEXT)]
    assert len(set(paths)) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert {path.stem for path in ROOT.glob('configs/imagenet/*.py')} == {
        Path(path).stem for path in paths if path.startswith('configs/imagenet')
    }


def test_its_channels_are_those_of_the_backbone():
    detector, segmentor = (Config.fromstring(text, '.py').model for text in (DETECTOR, SEGMENTOR))
    backbone = {key: value for key, value in detector.backbone.items() if key != '_delete_'}
    allowed = backbone.pop('init_cfg')['allow_missing']
    with DefaultScope.overwrite_default_scope('mmengine'):
        channels = list(MODELS.build(backbone).out_channels)
    assert detector.neck.in_channels == segmentor.decode_head.in_channels == channels
    assert segmentor.auxiliary_head.in_channels == channels[2]
    for norm in range(4):
        assert bool(re.fullmatch(allowed[0], f'norm{norm}.weight')) == (norm < 3)


@pytest.mark.parametrize('name', ['shapes_classification', 'shapes_detection'])
def test_its_data_sets_are_those_of_the_configs(name):
    command = shlex.split(Config.fromfile(ROOT / f'configs/_base_/datasets/{name}.py').prepare_data)
    assert command in [shlex.split(line) for line in TEXT.splitlines() if line.startswith('python')]


def test_no_blank_was_left_to_fill_in():
    assert not re.search(r'\b[A-Z]+_[A-Z]+\b(?!=)', TEXT.replace('OMP_NUM_THREADS', ''))
