"""Reading configs: where the bases are looked for, and what the errors name."""

from __future__ import annotations

import sys

import pytest
from mmengine.config import Config

from weightformer_mm.config.read import innermost_dataset, load_config, type_name
from weightformer_mm.errors import UserError


@pytest.fixture
def write(tmp_path):
    def write(name: str, text: str):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def test_a_base_is_found_through_a_path_with_dots(write):
    write('_base_/base.py', 'a = 1')
    config = write('deep/config.py', "_base_ = ['./../_base_/base.py']\nb = 2")
    cfg = load_config(config.parent / '..' / 'deep' / 'config.py')
    assert (cfg.a, cfg.b) == (1, 2)


@pytest.mark.parametrize(
    'text',
    [
        "_base_ = '{{ fileDirname }}/base.py'",
        "_base_ = ['./base' + '.py']",
        "_base_ = './' 'base.py'",
    ],
)
def test_computed_bases_are_left_to_mmengine(write, text):
    write('base.py', 'a = 1')
    assert load_config(write('config.py', text)).a == 1


@pytest.mark.parametrize('through', ['', '_base_ = "middle.py"\n'])
def test_a_missing_base_is_named_with_its_place(write, tmp_path, through):
    culprit = write('middle.py', 'x = 1\n_base_ = "none.py"')
    config = write('config.py', through) if through else culprit
    with pytest.raises(UserError) as error:
        load_config(config)
    assert str(error.value) == f'{culprit}, line 2: _base_ file not found: {tmp_path / "none.py"}'


def test_an_error_in_a_base_names_the_base(write):
    base = write('base.py', 'a = 1\nb = a["x"]')
    with pytest.raises(UserError, match='line 2: TypeError') as error:
        load_config(write('config.py', '_base_ = "base.py"'))
    assert str(error.value).startswith(str(base))


@pytest.mark.parametrize('through', ['', '_base_ = "middle.py"\n'])
def test_a_syntax_error_names_file_and_line(write, through):
    culprit = write('middle.py', 'a = 1\nb = (')
    config = write('config.py', through) if through else culprit
    with pytest.raises(UserError, match=f'{culprit}, line 2: '):
        load_config(config)


def test_a_base_of_a_library_that_does_not_exist_is_named(write):
    with pytest.raises(UserError, match=r'config.py: .*none.py'):
        load_config(write('config.py', "_base_ = 'mmdet::none/none.py'"))


@pytest.mark.parametrize('name', ['config.txt', 'config'])
def test_other_files_are_no_configs(write, name):
    with pytest.raises(UserError, match='is no config'):
        load_config(write(name, 'a = 1'))


def test_options_are_applied(write):
    assert load_config(write('config.py', 'model = dict(a=1)'), ['model.a=3']).model.a == 3


@pytest.mark.parametrize(
    'dataset',
    [
        dict(type='D', name='it'),
        dict(type='RepeatDataset', dataset=dict(type='D', name='it')),
        dict(type='ConcatDataset', datasets=[dict(type='D', name='it'), dict(type='D', name='no')]),
        dict(
            type='RepeatDataset',
            dataset=dict(type='ConcatDataset', datasets=[dict(type='R', dataset=dict(name='it'))]),
        ),
    ],
)
def test_the_innermost_dataset_is_found_through_wrappers(dataset):
    assert innermost_dataset(Config(dict(loader=dict(dataset=dataset))).loader).name == 'it'


@pytest.mark.parametrize('kind', ['Config', 'mmengine.Config', Config])
def test_type_names(kind):
    assert type_name(dict(type=kind)) == 'Config'


REGISTERED = """
default_scope: mmdet
model:
  type: MaskRCNN
  neck: {type: mmdet.FPN}
  test_cfg: {nms: {type: nms}}
optim_wrapper: {optimizer: {type: torch.optim.AdamW}}
hook: {type: mmengine.hooks.EMAHook, ema_type: ExpMomentumEMA}
dataset_type: my data
"""


def test_what_is_registered_may_be_named(tmp_path):
    (tmp_path / 'base.yml').write_text('param_scheduler: {type: LinearLR}')
    (tmp_path / 'a.yaml').write_text(f'_base_: base.yml{REGISTERED}')
    cfg = load_config(tmp_path / 'a.yaml')
    assert (cfg.param_scheduler.type, cfg.model.neck.type) == ('LinearLR', 'mmdet.FPN')


@pytest.mark.parametrize(
    ('old', 'new', 'key'),
    [
        ('mmdet.FPN', 'os.system', 'model.neck.type'),
        ('mmdet.FPN', 'mmdet.os', 'model.neck.type'),
        ('{type: nms}', '{type: "open(1)"}', 'model.test_cfg.nms.type'),
        ('{type: nms}', '{type: antigravity}', 'model.test_cfg.nms.type'),
        ('torch.optim.AdamW', 'subprocess.run', 'optim_wrapper.optimizer.type'),
        ('ExpMomentumEMA', 'mmengine.load', 'hook.ema_type'),
        ('dataset_type: my data', 'tracker: {warp_mode: "exec(1)"}', 'tracker.warp_mode'),
    ],
)
def test_what_is_not_registered_is_not_looked_up(old, new, key, tmp_path):
    (tmp_path / 'a.yaml').write_text(REGISTERED.replace(old, new))
    with pytest.raises(UserError, match=f'a.yaml: {key}=.* is not registered'):
        load_config(tmp_path / 'a.yaml')
    assert 'antigravity' not in sys.modules


@pytest.mark.parametrize('is_base', [False, True])
def test_yaml_loads_safely(is_base, tmp_path):
    (tmp_path / 'b.yaml').write_text(f'x: !!python/object/apply:os.mkdir ["{tmp_path}/owned"]')
    (tmp_path / 'a.yaml').write_text('_base_: b.yaml')
    with pytest.raises(UserError, match='yaml: could not determine a constructor'):
        load_config(tmp_path / ('a.yaml' if is_base else 'b.yaml'))
    assert not (tmp_path / 'owned').exists()


def test_json_names_only_what_is_registered(tmp_path):
    (tmp_path / 'a.json').write_text('{"model": {"type": "os.system", "command": "x"}}')
    with pytest.raises(UserError, match="a.json: model.type='os.system' is not registered"):
        load_config(tmp_path / 'a.json')


@pytest.mark.parametrize(
    ('files', 'message'),
    [
        ({'a.py': "_base_ = ['a.py']"}, r'a.py: it is a _base_ of itself, by way of .*a.py'),
        ({'a.py': "_base_ = 'b.py'", 'b.py': "_base_ = 'a.py'"}, 'a.py: it is a _base_ of itself'),
        ({'a.yaml': '_base_: a.yaml'}, 'a.yaml: it nests too deep, or is a _base_ of itself'),
        ({'a.py': "x = 'caf\xe9'"}, "a.py: 'utf-8' codec can't decode"),
        ({'a.py': "_base_ = 'b.py'", 'b.py': "x = '\xe9'"}, "b.py: 'utf-8' codec can't decode"),
        ({'a.yaml': 'x: \xe9'}, "a.yaml: 'utf-8' codec can't decode"),
        ({'a.json': '{"x": "\xe9"}'}, "a.json: 'utf-8' codec can't decode"),
        ({'a.yaml': 'a: [1, 2\nb: }'}, 'a.yaml: while parsing a flow sequence'),
        ({'a.json': '{"a": '}, 'a.json: Expecting value'),
        ({'a.yaml': '- a\n- b'}, 'the top level of a config must be keys'),
        (
            {'a.py': "_base_ = ['b.yaml']", 'b.yaml': '- a'},
            'the top level of a config must be keys',
        ),
        ({'a.py': '_base_ = 3'}, 'a.py, line 1: expected _base_ to be a path or several, got 3'),
        ({'a.py': 'x = 1\n_base_ = [None]'}, 'a.py, line 2: expected _base_ .* got None'),
        ({'a.py': "x = dict(type='A', type='B')"}, 'a.py, line 1: keyword argument repeated'),
        ({'a.py': 'raise SystemExit(3)'}, 'a.py, line 1: SystemExit: 3'),
        ({'a.py': 'custom_imports = 3'}, 'a.py: .* must be a mapping'),
    ],
    ids=str,
)
def test_a_broken_file_is_named(files, message, tmp_path):
    for name, text in files.items():
        (tmp_path / name).write_bytes(text.encode('latin-1'))
    with pytest.raises(UserError, match=message) as error:
        load_config(tmp_path / next(iter(files)))
    assert str(tmp_path) in str(error.value)
