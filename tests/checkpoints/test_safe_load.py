from __future__ import annotations

import io
import os
import pickle
import tarfile
import warnings
from argparse import Namespace
from collections import OrderedDict

import mmengine
import numpy as np
import pytest
import torch
import yaml
from mmengine.fileio.handlers.registry_utils import file_handlers
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleLR
from mmengine.runner import CheckpointLoader
from torch.torch_version import TorchVersion

from tests.helpers.pickles import Call
from weightformer_mm.checkpoints import safe_load
from weightformer_mm.checkpoints.safe_load import load_checkpoint_file
from weightformer_mm.checkpoints.schemes import use_safe_loading
from weightformer_mm.errors import UserError


def one_cycle_state() -> dict:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    return OneCycleLR(optimizer, eta_max=0.2, total_steps=10).state_dict()


HARMLESS = {
    'history': lambda: HistoryBuffer([1.0, 2.0], [1, 1]),
    'float64': lambda: np.float64(0.25),
    'int64': lambda: np.int64(7),
    'array': lambda: np.arange(3, dtype=np.float32),
    'one cycle': one_cycle_state,
    'command line': lambda: Namespace(lr=0.1, model='tiny'),
}


needs_allow_list = pytest.mark.skipif(
    not safe_load._HAS_ALLOW_LIST, reason='needs an allow-list, torch >= 2.4'
)


def test_formats_that_old_torch_reads_without_restriction(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / 'script.pth'))
    with tarfile.open(tmp_path / 'tar.pth', 'w') as archive:
        archive.addfile(tarfile.TarInfo('pickle'), io.BytesIO())
    for name, kind in {'script.pth': 'a TorchScript archive', 'tar.pth': 'a tar file'}.items():
        with pytest.raises(UserError, match=f'{name} is {kind}.*save a plain state_dict'):
            load_checkpoint_file(tmp_path / name)


@needs_allow_list
@pytest.mark.parametrize('name', HARMLESS)
def test_mmengines_own_objects_load(name, tmp_path):
    value = HARMLESS[name]()
    torch.save({'value': value}, tmp_path / 'file.pth')
    loaded = load_checkpoint_file(tmp_path / 'file.pth')['value']
    if isinstance(value, HistoryBuffer):
        assert loaded.mean() == 1.5 and loaded.statistics('max') == 2
    elif isinstance(value, np.ndarray):
        assert np.array_equal(loaded, value)
    else:
        assert loaded == value


def test_without_an_allow_list_the_error_says_which_torch_has_one(
    tmp_path, monkeypatch, no_safe_globals
):
    """As on torch < 2.4, where nothing is allowed."""
    torch.save({'value': HistoryBuffer([1.0], [1])}, tmp_path / 'file.pth')
    monkeypatch.setattr(safe_load, '_HAS_ALLOW_LIST', False)
    with pytest.raises(UserError, match='HistoryBuffer.*use torch >= 2.4'):
        load_checkpoint_file(tmp_path / 'file.pth')


@needs_allow_list
def test_they_load_after_a_block_of_somebody_else_that_allows_the_same(tmp_path):
    torch.save({'value': HistoryBuffer([1.0], [1])}, tmp_path / 'file.pth')
    load_checkpoint_file(tmp_path / 'file.pth')
    with torch.serialization.safe_globals([HistoryBuffer]):  # as mmengine's own loader does
        pass
    assert load_checkpoint_file(tmp_path / 'file.pth')['value'].mean() == 1.0


@pytest.mark.parametrize(
    'call',
    [
        lambda path: Call(os.mkdir, path),
        lambda path: Call(exec, f'import os; os.mkdir({path!r})'),
        lambda path: Call(getattr, HistoryBuffer, '__init__'),
        lambda path: Call(getattr, Call(getattr, HistoryBuffer, 'mean'), '__globals__'),
        lambda path: Call(getattr, os, 'system'),
    ],
    ids=['function', 'exec', 'attribute', 'globals', 'module'],
)
@pytest.mark.filterwarnings('ignore')
def test_nothing_in_the_file_runs(call, tmp_path):
    path = str(tmp_path / 'owned')
    try:
        torch.save({'state_dict': {}, 'x': call(path)}, tmp_path / 'file.pth')
    except TypeError:  # a module cannot be pickled by name: spelt out
        code = b'\x80\x02cbuiltins\ngetattr\ncos\nsystem\nU\x06system\x86R.'
        (tmp_path / 'file.pth').write_bytes(code)
    with pytest.raises(UserError, match='is not loaded|no readable checkpoint'):
        load_checkpoint_file(tmp_path / 'file.pth')
    assert not os.path.exists(path)


@pytest.mark.parametrize(
    'content', [b'', b'plain text', pickle.dumps([1]), b'PK\x03\x04' + b'\0' * 50]
)
def test_what_is_no_checkpoint_is_refused(content, tmp_path):
    (tmp_path / 'file.pth').write_bytes(content)
    with pytest.raises(UserError, match=f'{tmp_path}/file.pth is no'):
        load_checkpoint_file(tmp_path / 'file.pth')


def test_mmengine_loads_through_it(tmp_path, monkeypatch):
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    use_safe_loading()
    torch.save({'x': Call(os.mkdir, str(tmp_path / 'owned'))}, tmp_path / 'file.pth')
    with warnings.catch_warnings(), pytest.raises(UserError, match='is not loaded'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'file.pth'))
    assert not (tmp_path / 'owned').exists()


def test_the_text_of_a_config_stays_outside(tmp_path):
    text = dict(config='x', cfg='x')
    saved = {'meta': {**text, 'epoch': 3}, 'message_hub': {'runtime_info': {**text, 'iter': 4}}}
    torch.save(saved, tmp_path / 'file.pth')
    loaded = load_checkpoint_file(tmp_path / 'file.pth')
    assert loaded == {'meta': {'epoch': 3}, 'message_hub': {'runtime_info': {'iter': 4}}}
    assert load_checkpoint_file(tmp_path / 'file.pth', with_config=True) == saved


@needs_allow_list  # older ones refuse a parameter with attributes as a whole
def test_attributes_do_not_stand_before_methods(tmp_path):
    weights = OrderedDict(a=torch.nn.Parameter(torch.ones(1)))
    weights._metadata, weights.copy = OrderedDict({'': {'version': 2}}), 3
    weights['a'].cpu = 3
    torch.save({'state_dict': weights}, tmp_path / 'file.pth')
    loaded = load_checkpoint_file(tmp_path / 'file.pth')['state_dict']
    assert loaded['a'].cpu().item() == 1 and len(loaded.copy()) == 1
    assert loaded._metadata == {'': {'version': 2}}
    weights._metadata = {'': {'version': 'x'}}
    torch.save({'state_dict': weights}, tmp_path / 'file.pth')
    assert not hasattr(load_checkpoint_file(tmp_path / 'file.pth')['state_dict'], '_metadata')


def nested(depth: int) -> list:
    value: list = [1]
    for _ in range(depth):
        value = [value, value]
    return value


def circle() -> list:
    value: list = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    'value',
    [nested(40), circle(), torch.ones(1).expand(10**13)],
    ids=['doubling', 'circle', 'repeated value'],
)
def test_what_would_never_end_is_refused(value, tmp_path, monkeypatch):
    monkeypatch.setattr(safe_load, '_MOST_VALUES', 100_000)  # a hundredth, which is counted sooner
    torch.save({'x': value}, tmp_path / 'file.pth')
    with pytest.raises(UserError, match='nests too deep|larger than the file'):
        load_checkpoint_file(tmp_path / 'file.pth')


@pytest.mark.parametrize('version', ['2.9.1', '2.10.0'])
def test_an_old_torch_is_warned_of_once(version, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(safe_load, 'print_log', lambda text, *_: said.append(text))
    torch.save({}, tmp_path / 'file.pth')
    monkeypatch.setattr(torch, '__version__', TorchVersion(version))
    safe_load._warn_of_old_torch.cache_clear()
    for _ in range(2):
        load_checkpoint_file(tmp_path / 'file.pth')
    safe_load._warn_of_old_torch.cache_clear()
    assert [text.endswith('use torch >= 2.10, or safetensors') for text in said] == (
        [True] if version == '2.9.1' else []
    )


def test_files_of_mmengine(tmp_path):
    handlers = dict(file_handlers)
    try:
        use_safe_loading()
        mmengine.dump([1], tmp_path / 'results.pkl')
        with pytest.raises(UserError, match='pkl.* is a pickle'):
            mmengine.load(tmp_path / 'results.pkl')
        code = f'!!python/object/apply:os.mkdir [{tmp_path}/owned]'
        (tmp_path / 'file.yaml').write_text(code)
        with pytest.raises(yaml.YAMLError):
            mmengine.load(tmp_path / 'file.yaml')
    finally:
        file_handlers.clear()
        file_handlers.update(handlers)
    assert not (tmp_path / 'owned').exists()
