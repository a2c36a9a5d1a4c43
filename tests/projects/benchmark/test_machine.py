from __future__ import annotations

import subprocess

import pytest
import torch

from projects.benchmark import machine
from weightformer_mm.errors import UserError


def git(folder, *arguments):
    identity = ['-c', 'user.name=a', '-c', 'user.email=a@b.c']
    command = ['git', '-C', str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_commit_is_that_of_the_checkout(tmp_path, monkeypatch):
    file = tmp_path / 'package' / 'machine.py'
    file.parent.mkdir()
    file.write_text('one\n')
    monkeypatch.setattr(machine, '__file__', str(file))
    monkeypatch.delenv(machine.COMMIT, raising=False)
    monkeypatch.setenv('GIT_CEILING_DIRECTORIES', str(tmp_path.parent))
    assert machine.commit() == ''
    git(tmp_path, 'init', '-q')
    (tmp_path / 'other').touch()
    git(tmp_path, 'add', 'other')
    git(tmp_path, 'commit', '-q', '-m', 'other')
    assert machine.commit() == ''  # inside another project's checkout
    git(tmp_path, 'add', '.')
    git(tmp_path, 'commit', '-q', '-m', 'one')
    head = git(tmp_path, 'rev-parse', 'HEAD')
    assert machine.commit() == head
    (tmp_path / 'results.csv').write_text('new\n')
    assert machine.commit() == head
    file.write_text('two\n')
    assert machine.commit() == f'{head}+dirty'
    monkeypatch.setenv('WEIGHTFORMER_COMMIT', 'abc')
    assert machine.commit() == 'abc'


def test_description_names_device_and_versions():
    cells = machine.describe(torch.device('cpu'))
    assert cells['torch'] == torch.__version__ and cells['timm'] and cells['mmdet'][0].isdigit()
    assert cells['device'] and cells['threads'] == torch.get_num_threads()


@pytest.mark.parametrize('name', ['gpu', 'meta', 'cuda:99'])
def test_unknown_devices(name):
    with pytest.raises(UserError, match=f'--device {name}'):
        machine.resolve_device(name)


@pytest.mark.parametrize('name', ['auto', 'cuda'])
def test_a_gpu_comes_with_its_index(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    assert machine.resolve_device(name) == torch.device('cuda', 0)
    assert machine.resolve_device('cuda:1') == torch.device('cuda', 1)
    assert machine.resolve_device('cpu') == torch.device('cpu')


def test_the_smallest_limit_counts(monkeypatch):
    files = {
        '/proc/meminfo': ['MemTotal: 9000 kB', 'MemAvailable: 2000 kB'],
        '/sys/fs/cgroup/memory.max': ['1500000'],
        '/sys/fs/cgroup/memory.current': ['500000'],
    }
    monkeypatch.setattr(machine, '_lines', lambda path: files.get(path, []))
    assert machine.available_memory() == 1000000
    files['/sys/fs/cgroup/memory.max'] = ['max']
    assert machine.available_memory() == 2000 * 1024
    files.clear()
    assert machine.available_memory() is None
