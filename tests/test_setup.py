"""Packaging, the lock files, and the set-up as `make setup` runs it; without the network."""

from __future__ import annotations

import distutils.core
import importlib
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
SETUP = ROOT / 'tools' / 'setup'


def run(*command, env=None, cwd=ROOT):
    """Run a command as a user would, with nothing in pip's settings but `env`."""
    base = {k: v for k, v in os.environ.items() if not k.startswith(('PIP_', 'CXX', 'MAKE'))}
    base.update(PIP_CONFIG_FILE=os.devnull, PIP_NO_INDEX='1', **(env or {}))
    return subprocess.run(
        [str(c) for c in command], env=base, cwd=cwd, capture_output=True, text=True
    )


def write_script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n{body}\n')
    path.chmod(0o755)
    return path


def assert_one_line(result, *words):
    """A user error: exit code 2 and one line on stderr that says `words`."""
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    for word in words:
        assert word in result.stderr


def folder_with(path: Path, *names: str) -> Path:
    """A folder for PATH with these commands of this machine and no others."""
    path.mkdir()
    for name in names:
        (path / name).symlink_to(shutil.which(name))
    return path


# Packaging


@pytest.fixture
def distribution(monkeypatch):
    monkeypatch.chdir(ROOT)
    return distutils.core.run_setup('setup.py', stop_after='init')


def test_installing_brings_torch_timm_and_numpy_alone(distribution):
    names = [Requirement(text).name for text in distribution.install_requires]
    assert sorted(names) == ['numpy', 'timm', 'torch']


def test_extras(distribution):
    extras = distribution.extras_require
    optional = {'onedl', 'openmmlab', 'pretrain', 'triton', 'export', 'completion'}
    assert set(extras) == {*optional, 'dev', 'lint'}
    assert all(Requirement(text) for texts in extras.values() for text in texts)


def test_version_is_that_of_the_package(distribution):
    code = runpy.run_path(ROOT / 'weightformer_mm' / 'version.py')
    assert distribution.metadata.version == code['__version__']


def test_every_folder_with_code_is_packaged(distribution):
    files = [*ROOT.glob('weightformer_mm/**/*.py'), *ROOT.glob('weightformer_mm_cli/*.py')]
    folders = {'.'.join(file.parent.relative_to(ROOT).parts) for file in files}
    assert set(distribution.packages) == folders


def test_type_hints_are_packaged(distribution):
    assert (ROOT / 'weightformer_mm/py.typed').exists()
    assert distribution.package_data['weightformer_mm'][0] == 'py.typed'


# Lock files


LOCKS = {
    'lock*.txt': ('onedl', 'pretrain', 'triton', 'dev', 'lint'),
    'official.txt': ('openmmlab', 'dev'),
}


PIN = re.compile(r'([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)((?: \\\n    --hash=sha256:[0-9a-f]{64})*)\n')
WITHOUT_HASHES = {'onedl-mmcv'}  # what each machine compiles


def locked(files: str) -> list[tuple[str, str, str]]:
    """Name, version and hashes of every package of the lock files."""
    texts = [file.read_text() for file in sorted((ROOT / 'requirements').glob(files))]
    text = re.sub(r'^#.*\n', '', ''.join(texts), flags=re.MULTILINE)
    assert PIN.sub('', text) == ''
    return [(canonicalize_name(name), *rest) for name, *rest in PIN.findall(text)]


@pytest.mark.parametrize('files', [*LOCKS, 'docs.txt'])
def test_lock_pins_every_package_once(files):
    names = [name for name, _, _ in locked(files)]
    assert names and len(set(names)) == len(names)


@pytest.mark.parametrize('files', ['lock*.txt', 'docs.txt'])
def test_lock_has_the_hashes_of_what_is_downloaded(files):
    without = {name for name, _, hashes in locked(files) if not hashes}
    assert without == WITHOUT_HASHES & {name for name, _, _ in locked(files)}


@pytest.mark.parametrize('files', LOCKS)
def test_lock_has_the_requirements_and_extras(distribution, files):
    pins = {name: version for name, version, _ in locked(files)}
    wanted = list(distribution.install_requires)
    for extra in LOCKS[files]:
        wanted += distribution.extras_require[extra]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])


# Makefile and .ci/run


def test_help_lists_every_target():
    rules = re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
    shown = run('make', '--no-print-directory').stdout
    assert {'setup', 'demo', 'test', 'lint', 'docs', 'clean', 'help'} <= set(rules)
    for rule in rules:
        assert re.search(rf'^  make {rule} +\w', shown, re.MULTILINE), rule


def test_make_runs_the_package_of_its_own_checkout(tmp_path):
    """The environment may point at another checkout; commands started by commands count too."""
    shutil.copy(ROOT / 'Makefile', tmp_path)
    write_script(tmp_path / 'tools/setup/setup.sh', 'exit 0')
    write_script(tmp_path / 'env/bin/python', f'exec {sys.executable} "$@"')
    (tmp_path / 'weightformer_mm').mkdir()
    (tmp_path / 'weightformer_mm/__init__.py').write_text('')
    (tmp_path / 'tools/demo.py').write_text(
        'import subprocess, sys\n'
        "show = 'import weightformer_mm; print(weightformer_mm.__file__)'\n"
        "subprocess.run([sys.executable, '-c', show], cwd='/', check=True)\n"
    )
    result = run('make', 'demo', 'VENV=env', cwd=tmp_path)
    assert result.stdout.split() == [str(tmp_path / 'weightformer_mm/__init__.py')], result.stderr


def test_clean_keeps_results_and_environment(tmp_path):
    shutil.copy(ROOT / 'Makefile', tmp_path)
    kept = ['data/a', 'work_dirs/a', '.venv/__pycache__/a', 'tests/a']
    gone = [
        'tests/__pycache__/a',
        'build/a',
        'site/a',
        'x.egg-info/a',
        '.ruff_cache/a',
        '.pytest_cache/a',
    ]
    for name in kept + gone:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('')
    for name in ('weightformer_mm', 'weightformer_mm_cli', 'projects', 'tools', 'configs'):
        (tmp_path / name).mkdir()
    assert run('make', 'clean', cwd=tmp_path).returncode == 0
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob('*') if p.is_file()}
    assert left == {*kept, 'Makefile'}


@pytest.mark.parametrize('shared', [True, False])
def test_ci_run(tmp_path, shared):
    clone, tools = tmp_path / 'clone', tmp_path / 'bin'
    shutil.copytree(ROOT / '.ci', clone / '.ci')
    shutil.copytree(ROOT / 'requirements', clone / 'requirements')
    write_script(tools / 'make', 'echo "$1|$PWD|$VENV|${PIP_FIND_LINKS-unset}"')
    if shared:
        (tmp_path / 'shared/wheels').mkdir(parents=True)
    env = {'PATH': f'{tools}:{os.environ["PATH"]}', 'XDG_CACHE_HOME': str(tmp_path / 'cache')}

    def said():
        result = run(clone / '.ci/run', env={**env, 'PIP_FIND_LINKS': '/mine'}, cwd='/')
        return [line.split('|') for line in result.stdout.splitlines()]

    first = said()
    links = f'/mine {tmp_path}/shared/wheels' if shared else '/mine'
    assert [(row[0], row[1], row[3]) for row in first] == [
        ('lint', str(clone), links),
        ('test', str(clone), links),
    ]
    assert first[0][2] == first[1][2] and first[0][2].startswith(str(tmp_path / 'cache'))
    with (clone / 'requirements/lock.txt').open('a') as lock:
        lock.write('another==1\n')
    assert said()[0][2] != first[0][2]


# What set-up refuses, before it installs anything


def setup_sh(python, venv, **env):
    return run('sh', SETUP / 'setup.sh', python, venv, env=env)


def test_wrong_python_is_named(tmp_path):
    fake = write_script(tmp_path / 'python', '[ "$1" = --version ] && echo Python 3.9.1; exit 1')
    result = setup_sh(fake, tmp_path / 'env')
    assert_one_line(result, f'PYTHON={fake} is not CPython 3.11 or 3.12', '(Python 3.9.1)')
    assert not (tmp_path / 'env').exists()


def test_no_python_on_the_path(tmp_path):
    path = folder_with(tmp_path / 'bin', 'sh', 'dirname')
    write_script(path / 'python3', 'exit 1')
    result = setup_sh('', tmp_path / 'env', PATH=str(path))
    assert_one_line(result, 'no CPython 3.11 or 3.12', 'PYTHON=/path')
    assert not (tmp_path / 'env').exists()


def test_venv_cannot_be_written():
    result = setup_sh(sys.executable, '/dev/null/env')
    assert_one_line(result, 'VENV=/dev/null/env cannot be written: Not a directory')


def test_venv_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / 'mine').write_text('x')
    assert_one_line(setup_sh(sys.executable, tmp_path), f'VENV={tmp_path} holds files')
    assert [p.name for p in tmp_path.iterdir()] == ['mine']


@pytest.fixture
def install(monkeypatch):
    """tools/setup/install.py as a module."""
    monkeypatch.syspath_prepend(SETUP)
    yield importlib.import_module('install')
    for name in ('install', 'operators'):
        sys.modules.pop(name, None)


def test_no_disk_space(install, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(install, 'ENVIRONMENT_GB', 1e9)
    with pytest.raises(SystemExit) as end:
        install.claim(tmp_path / 'a/env')
    assert end.value.code == 2
    assert re.fullmatch(
        rf'setup: {tmp_path} has .* GB of free .* needed\n', capsys.readouterr().err
    )
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize('body', [None, 'echo "error: no Python.h" >&2; exit 1'])
def test_missing_or_broken_compiler_is_noticed(install, tmp_path, monkeypatch, body):
    monkeypatch.setattr(install.operators, 'COMPILER', [str(tmp_path / 'g++')])
    if body:
        write_script(tmp_path / 'g++', body)
    assert not install.operators.can_compile()


def test_compiler_is_asked_for_where_pip_has_no_wheel(install, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(install.operators, 'can_compile', lambda: False)
    steps = write_steps(install, monkeypatch)
    with pytest.raises(SystemExit) as end:
        install.main(tmp_path / 'env')
    assert end.value.code == 2 and steps == ['Making']
    assert 'no wheel of onedl-mmcv' in capsys.readouterr().err


# The steps


def write_steps(install, monkeypatch, body: str = 'exit 1') -> list:
    """Let the steps of set-up do nothing but make a python that runs `body`; returns the list of them."""
    steps = []

    def run(title, command, env=None):
        steps.append(title.split()[0].rstrip(':'))
        if steps[-1] == 'Making':
            packages = Path(command[-1]) / 'lib/python3.11/site-packages'
            packages.mkdir(parents=True)
            write_script(Path(command[-1]) / 'bin/python', body)

    monkeypatch.setattr(install, 'run', run)
    return steps


def test_set_up_is_done_once_for_each_lock(install, tmp_path, monkeypatch):
    """A finished environment is left alone, but for the checkout that it points at."""
    locks = shutil.copytree(ROOT / 'requirements', tmp_path / 'requirements')
    monkeypatch.setattr(install, 'LOCKS', [locks / path.name for path in install.LOCKS])
    steps, venv = write_steps(install, monkeypatch, body='exit 0'), tmp_path / 'env'
    install.main(venv)
    assert steps == ['Making', *['Installing'] * 4, *['Checking'] * 2]
    monkeypatch.setattr(install, 'ROOT', tmp_path / 'another')
    install.main(venv)
    assert len(steps) == 7
    (pointer,) = venv.rglob('*.pth')
    assert pointer.read_text() == f'{tmp_path}/another\n'
    with (locks / 'lock.txt').open('a') as lock:
        lock.write('another==1\n')
    install.main(venv)
    assert len(steps) == 14


def test_uv_itself_must_have_a_hash_of_the_lock(install, tmp_path, monkeypatch):
    write_steps(install, monkeypatch, body='exit 0')
    commands, run = {}, install.run

    def noting(title, command, env=None):
        commands[title] = command
        run(title, command, env)

    monkeypatch.setattr(install, 'run', noting)
    install.main(tmp_path / 'env')
    words = commands['Installing uv']
    assert '--require-hashes' in words and words[-1] == ROOT / 'requirements/lock-build.txt'


def test_failed_step_is_told(install):
    with pytest.raises(SystemExit, match='setup: this failed: Step'):
        install.run('Step', ['sh', '-c', 'exit 3'])


def test_failed_set_up_starts_over(install, tmp_path, monkeypatch):
    steps, options = write_steps(install, monkeypatch, body='exit 0'), install.uv_options
    monkeypatch.setattr(install, 'uv_options', lambda python: sys.exit('failed'))
    with pytest.raises(SystemExit):
        install.main(tmp_path / 'env')
    assert not install.is_complete(tmp_path / 'env')
    monkeypatch.setattr(install, 'uv_options', options)
    install.main(tmp_path / 'env')
    assert steps.count('Making') == 2 and install.is_complete(tmp_path / 'env')


def test_interruption_ends_all_that_a_step_started(tmp_path):
    """A process of a process: it would go on when set-up has ended."""
    started, waiting, ended = (tmp_path / name for name in ('started', 'waiting', 'ended'))
    body = f'trap "touch {ended}; exit" TERM; touch {started}; while :; do sleep 0.05; done'
    script = f"""
import install, pathlib, subprocess

class Popen(subprocess.Popen):
    def wait(self):
        pathlib.Path('{waiting}').touch()
        return super().wait()

install.subprocess.Popen = Popen
install.run('Step', ['sh', '-c', '({body}) & wait'])
"""
    process = subprocess.Popen([sys.executable, '-c', script], cwd=SETUP, stderr=subprocess.DEVNULL)
    while not (started.exists() and waiting.exists()):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait() != 0
    while not ended.exists():
        time.sleep(0.01)


def test_uv_is_told_what_pip_is_told(install, tmp_path, monkeypatch):
    """A variable counts more than a file, and what uv does not know is left out."""
    config = tmp_path / 'pip.conf'
    config.write_text(
        '[global]\nextra-index-url = file:///a file:///b\nfind-links = /old\nretries = 3\n'
    )
    for name in [name for name in os.environ if name.startswith('PIP_')]:
        monkeypatch.delenv(name)
    monkeypatch.setenv('PIP_CONFIG_FILE', str(config))
    monkeypatch.setenv('PIP_FIND_LINKS', '/x /y')
    options = install.uv_options(Path(sys.executable))
    links = [word for word in options if word.startswith('--find-links')]
    indexes = [word for word in options if word.startswith('--extra-index-url')]
    assert links == ['--find-links=/x', '--find-links=/y']
    assert indexes[-2:] == ['--extra-index-url=file:///a', '--extra-index-url=file:///b']
    assert not any('retries' in word for word in options) and '--no-index' not in options
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    assert '--no-index' in install.uv_options(Path(sys.executable))


HEADER = 'mmcv/ops/csrc/common/pytorch_cpp_helper.hpp'
SOURCES = 'mmcv/ops/csrc/pytorch'


@pytest.mark.skipif(shutil.which('g++') is None, reason='needs g++')
def test_interrupted_compilation_goes_on_with_the_compiled_header(install, tmp_path, monkeypatch):
    """The sources are fetched once, the small ones joined, and g++ takes the compiled header for them."""
    monkeypatch.setattr(install.operators, 'COMPILER', ['g++'])
    titles, work = [], tmp_path / 'work'

    def step(title, command, env=None):
        titles.append(title.split()[2].rstrip(':'))
        if titles[-1] == 'sources':
            (tmp_path / 'onedl_mmcv-2' / HEADER).parent.mkdir(parents=True)
            (tmp_path / 'onedl_mmcv-2' / HEADER).write_text('inline int one() { return 1; }\n')
            (tmp_path / 'onedl_mmcv-2' / SOURCES).mkdir()
            for name in ('two', 'three', 'pybind'):
                text = f'int {name}() {{ return one(); }}\n'
                (tmp_path / 'onedl_mmcv-2' / SOURCES / f'{name}.cpp').write_text(text)
            work.mkdir()
            shutil.make_archive(work / 'mmcv', 'gztar', tmp_path, 'onedl_mmcv-2')
        elif 'c++-header' in command:
            subprocess.run(command, check=True)
        elif titles.count('operators') == 1:
            raise KeyboardInterrupt
        else:
            options = [*env['CFLAGS'].split(), '-fPIC', '-std=c++17', '-Winvalid-pch', '-Werror']
            files = sorted((work / 'source' / SOURCES).glob('*.cpp'))
            assert [file.name for file in files] == ['operators.cpp', 'pybind.cpp']
            output = ['-H', '-c', files[0], '-o', tmp_path / 'a.o']
            said = subprocess.run(['g++', *options, *output], capture_output=True, text=True)
            assert said.returncode == 0 and f'! {work}/source/{HEADER}.gch' in said.stderr
            assert {b'two', b'three'} <= set(
                re.findall(b'two|three|pybind', output[-1].read_bytes())
            )

    python = tmp_path / 'env/bin/python'
    (tmp_path / 'env/lib/python3.11/site-packages/torch/include').mkdir(parents=True)
    write_script(python, 'exit 1')
    arguments = ['onedl-mmcv==2', tmp_path / 'wheels', work, python, step]
    with pytest.raises(KeyboardInterrupt):
        install.operators.compile_wheel(*arguments)
    install.operators.compile_wheel(*arguments)
    assert titles == ['sources', 'header', 'operators', 'operators']
    assert not work.exists()
