"""``tools/complexity.py`` as a user runs it."""

from __future__ import annotations

import json

import pytest

from tests.helpers import formulas
from tests.helpers.commands import DETECTION, ROOT, SEGMENTATION
from weightformer_mm.backbones import PyramidWeightFormer
from weightformer_mm.layers.pattern import is_dynamic

BACKBONE = """
custom_imports = dict(imports=['weightformer_mm'])
model = dict(
    type='PyramidWeightFormer', arch='micro',
    init_cfg=dict(type='Pretrained', checkpoint='hf://nobody/nothing'))
"""


@pytest.fixture
def backbone(tmp_path):
    path = tmp_path / 'backbone.py'
    path.write_text(BACKBONE)
    return path


def micro(height: int, width: int) -> int:
    settings = PyramidWeightFormer.arch_settings['micro']
    indices = iter(range(sum(settings['depths'])))
    dynamic = [[is_dynamic(next(indices)) for _ in range(depth)] for depth in settings['depths']]
    return formulas.pyramid_weightformer(height, width, settings['embed_dims'], dynamic)


def test_mask_rcnn_with_swin_t_costs_what_mmdet_publishes(tools, tmp_path):
    config = tmp_path / 'swin.py'
    config.write_text("_base_ = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'")
    out = tools.run('complexity', config, '--shape', 800, 1280, '--format', 'json').ok()
    (result,) = json.loads(out)['results']
    assert result['multiply_adds'] == pytest.approx(267e9, rel=0.01)
    assert result['parameters'] == pytest.approx(47.8e6, rel=0.001)
    assert set(result['not_counted']) == {'mmcv::roi_align', 'mmcv::nms'}
    assert any(note.startswith('1000 proposals') for note in result['notes'])


def test_bare_backbone_at_several_shapes(tools, backbone):
    noise = "print('what a library may print is no part of the report')"
    backbone.write_text(f'{noise}\n{BACKBONE}')
    shapes = ('--shape', 64, 64, 64, 96, '--shape', 50)
    out = tools.run('complexity', backbone, *shapes, '--format', 'json', '--depth', 1).ok()
    report = json.loads(out)
    assert report['model'] == 'PyramidWeightFormer (backbone.py)'
    results = report['results']
    assert [result['shape'] for result in results] == [[64, 64], [64, 96], [50, 50]]
    for result in results:
        assert result['multiply_adds'] == micro(*result['shape'])
        assert {module['name'].count('.') for module in result['modules']} == {0}


@pytest.mark.parametrize('config', [DETECTION, SEGMENTATION], ids=['mmdet', 'mmseg'])
def test_backbone_of_a_larger_config_by_default_shape(tools, config):
    recipe = ROOT / 'configs/shapes' / config.name
    out = tools.run('complexity', recipe, '--backbone', '--format', 'json').ok()
    (result,) = json.loads(out)['results']
    assert result['shape'] == ([800, 1280] if config == DETECTION else [512, 512])
    assert result['multiply_adds'] == micro(*result['shape'])


def test_table_and_markdown(tools, tmp_path):
    arguments = (DETECTION, '--shape', 64, 64, '--depth', 1)
    table = tools.run('complexity', *arguments).ok()
    assert 'MaskRCNN' in table and 'roi_head' in table and 'bbox_head' not in table
    assert 'not counted: mmcv::roi_align (' in table and 'norms, pooling' in table
    out = tmp_path / 'new' / 'cost.md'
    log = tools.run('complexity', *arguments, '--format', 'markdown', '--out', out).ok()
    assert log.splitlines()[-1] == str(out)
    lines = out.read_text().splitlines()
    rows = [line.split('|')[1:-1] for line in lines if line.startswith('|')]
    assert {len(row) for row in rows} == {6}
    assert {row[0].strip() for row in rows} >= {'total', 'backbone', 'neck', 'rpn_head', 'roi_head'}
    assert [path.name for path in out.parent.iterdir()] == ['cost.md']


def test_the_config_is_not_replaced(tools, backbone, tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(backbone.read_text())
    (tmp_path / 'link.py').symlink_to(config)
    for out in (config, tmp_path / 'none/../config.py', tmp_path / 'link.py'):
        line = tools.run('complexity', config, '--shape', 64, '--out', out).error_line()
        assert f'--out {out}: this file is read' in line
    assert config.read_text() == backbone.read_text()


def test_options_change_the_config(tools, backbone):
    change = ('--cfg-options', 'model.dynamic_linear=static', 'model.dynamic_conv=static')
    out = tools.run('complexity', backbone, '--shape', 64, '--format', 'json', *change).ok()
    assert json.loads(out)['results'][0]['multiply_adds'] < micro(64, 64)


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        (['none.py'], 'config not found: none.py'),
        (['CONFIG', '--shape', '3', '64'], 'PyramidWeightFormer needs images of at least 4x4'),
        (['CONFIG', '--shape', '0', '64'], '--shape 0 64: expected positive numbers of pixels'),
        (['CONFIG', '--backbone'], '--backbone: PyramidWeightFormer, of'),
        (['CONFIG', '--depth', '-1'], '--depth -1: expected'),
        (['CONFIG', '--out', 'file/out.md'], '--out file: cannot write there'),
        (['CONFIG', '--out', '.'], '--out .: a folder'),
        (['CONFIG', '--cfg-options', 'model.type=Nothing'], "type='Nothing' is not in"),
        (['CONFIG', '--cfg-options', 'default_scope=nolib'], 'nolib, which the config needs'),
    ],
    ids=lambda value: '-'.join(value[1:]) if isinstance(value, list) else '',
)
def test_bad_input(tools, backbone, arguments, expected):
    (tools.folder / 'file').touch()
    arguments = [backbone if argument == 'CONFIG' else argument for argument in arguments]
    assert expected in tools.run('complexity', *arguments).error_line()


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [(['--shape', 1, 2, 3], 'expected pairs'), (['--format', 'xml'], 'invalid choice')],
    ids=['shape', 'format'],
)
def test_wrong_options_need_no_library(tools, backbone, arguments, expected):
    result = tools.run('complexity', backbone, *arguments)
    assert result.code == 2
    assert expected in result.err.splitlines()[-1]


def test_help_says_what_activations_are(tools):
    assert 'not the peak' in ' '.join(tools.run('complexity', '--help').ok().split())
