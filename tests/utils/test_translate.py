from __future__ import annotations

import errno
import re
import sys
from functools import partial

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, VISBACKENDS, Registry

import weightformer_mm.backbones  # noqa: F401  registers them
from weightformer_mm.engine.runner.launch import use_launcher
from weightformer_mm.errors import Interrupted, RunFailed, UserError
from weightformer_mm.utils.translate import explain, require_libraries
from weightformer_mm_cli.running import run_tool


def caught(function, *args) -> Exception:
    with pytest.raises(Exception) as info:  # noqa: PT011, B017
        function(*args)
    return info.value


def test_registry_and_constructor_errors():
    unknown = explain(caught(MODELS.build, {'type': 'PyramidWaitFormer'}))
    assert "type='PyramidWaitFormer' is not in the mmengine::model registry" in str(unknown)
    assert 'custom_imports' in str(unknown)
    elsewhere = explain(caught(MODELS.build, {'type': 'nowhere.Model'}))
    assert "type='nowhere.Model' is not in" in str(elsewhere)
    argument = explain(caught(MODELS.build, {'type': 'WeightFormer', 'dephts': 3}))
    assert str(argument) == "config: WeightFormer got an unexpected key 'dephts'"
    arch = explain(caught(MODELS.build, {'type': 'WeightFormer', 'arch': 'huge'}))
    assert str(arch).startswith("unknown arch 'huge'; choose one of ")
    assert 'tiny' in str(arch) and 'base' in str(arch)
    kind = explain(caught(MODELS.build, {'type': 'WeightFormer', 'arch': 3}))
    assert 'expected arch to be a name or a dict' in str(kind)


@pytest.mark.parametrize(
    ('kind', 'package', 'hidden'),
    [
        ('TensorboardVisBackend', 'tensorboard', 'torch.utils.tensorboard'),
        ('WandbVisBackend', 'wandb', 'wandb'),
    ],
)
def test_logger_whose_package_is_missing(kind, package, hidden, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, hidden, None)  # importing it fails
    backend = VISBACKENDS.build({'type': kind, 'save_dir': str(tmp_path)})
    problem = explain(caught(backend.add_scalar, 'loss', 1.0))
    assert isinstance(problem, UserError)
    assert str(problem).startswith('a package that the config needs is missing: ')
    assert re.search(rf'pip install .*{package}', str(problem))


def preprocess(type: str, channels: int, **options) -> None:
    preprocessor = MODELS.build({'type': type, 'mean': [1.0] * 3, 'std': [1.0] * 3, **options})
    preprocessor({'inputs': [torch.zeros(channels, 8, 8)], 'data_samples': [None]})


@pytest.mark.parametrize(
    ('type', 'channels', 'options'),
    [
        ('mmdet.DetDataPreprocessor', 1, {'bgr_to_rgb': True}),
        ('mmdet.DetDataPreprocessor', 4, {}),
        ('mmseg.SegDataPreProcessor', 4, {'bgr_to_rgb': True}),
        ('mmseg.SegDataPreProcessor', 5, {}),
    ],
)
def test_images_of_other_channels(type, channels, options):
    problem = str(explain(caught(partial(preprocess, type, channels, **options))))
    assert problem.startswith(
        f'model.data_preprocessor needs images of 3 channels, but got {channels}'
    )


def test_samples_that_are_not_packed():
    batch = [{'img': 1, 'gt': [1]}, {'img': 2, 'gt': [1, 2]}]
    for error in (
        caught(pseudo_collate, batch),
        caught(MODELS.build({'type': 'mmdet.DetDataPreprocessor'}), {}),
    ):
        assert 'must end in PackDetInputs' in str(explain(error))


def test_objects_that_were_not_loaded():
    from mmengine.structures import InstanceData

    problem = explain(caught(lambda: InstanceData(labels=[]).masks))
    assert str(problem).startswith('the objects have no masks, which the model learns from')


def test_files():
    for number in (errno.ENOSPC, errno.EACCES):
        problem = explain(OSError(number, 'No way', '/some/file'))
        assert str(problem) == 'cannot use the file or folder /some/file: No way'
    assert 'batch_size' in str(
        explain(RuntimeError("x DefaultCPUAllocator: can't allocate memory"))
    )


def test_programming_errors_are_nobodys_input(monkeypatch):
    class Broken:
        def __init__(self, given):
            given.missing  # noqa: B018

    def wrong_call():
        return len(1, 2)

    monkeypatch.setenv('WORLD_SIZE', 'x')  # int() fails inside the package
    models = Registry('broken')
    models.register_module(module=Broken)
    for error in (
        caught(models.build, {'type': 'Broken', 'given': 3}),
        caught(wrong_call),
        caught(use_launcher, Config(), 'none'),
        caught(int, 'x'),
        caught({}.__getitem__, 'x'),
        RuntimeError('x'),
        AssertionError(),
        OSError('odd'),
    ):
        assert explain(error) is None


@pytest.mark.parametrize(
    ('error', 'code', 'line'),
    [
        (UserError('bad\n  input'), 2, 'tool.py: error: bad input'),
        (RunFailed('diverged'), 1, 'tool.py: error: diverged'),
        (Interrupted('stopped'), 130, 'tool.py: error: stopped'),
        (KeyboardInterrupt(), 130, 'tool.py: interrupted'),
        (None, 0, ''),
    ],
)
def test_a_tool_ends_with_one_line_and_a_code(error, code, line, capsys, monkeypatch):
    def main():
        if error is not None:
            raise error

    monkeypatch.setattr('sys.argv', ['/somewhere/tool.py'])
    assert run_tool(main) == code
    assert capsys.readouterr().err.strip() == line


def test_a_tool_keeps_the_traceback_of_a_bug():
    def main():
        raise ValueError('a bug')

    with pytest.raises(ValueError, match='a bug'):
        run_tool(main)


@pytest.mark.parametrize('scope', ['mmengine', 'mmdet', 'mmseg', 'mmpretrain'])
def test_installed_libraries_pass(scope):
    require_libraries(scope)


def test_missing_library_names_the_extras():
    with pytest.raises(UserError, match=r'mmnone, which .*\[onedl\].*\[openmmlab\]'):
        require_libraries('mmnone')


def test_mmpretrain_has_an_extra_of_its_own(monkeypatch):
    monkeypatch.setattr('weightformer_mm.utils.translate.find_spec', lambda name: None)
    with pytest.raises(UserError, match=r'mmpretrain, which .*\[pretrain\]'):
        require_libraries('mmpretrain')


def test_missing_operators(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmcv.ops', None)
    with pytest.raises(UserError, match='mmcv has no compiled operators'):
        require_libraries('mmdet')
