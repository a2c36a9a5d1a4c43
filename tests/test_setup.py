"""Packaging, the lock files, and the set-up as `make setup` runs it; without the network."""

from __future__ import annotations

import distutils.core
import importlib
import os
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
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
    assert set(extras) == {'onedl', 'openmmlab', 'pretrain', 'triton', 'onnx', 'dev'}
    assert all(Requirement(text) for texts in extras.values() for text in texts)


def test_version_is_that_of_the_package(distribution):
    code = runpy.run_path(ROOT / 'weightformer_mm' / 'version.py')
    assert distribution.metadata.version == code['__version__']


def test_every_folder_with_code_is_packaged(distribution):
    files = (ROOT / 'weightformer_mm').rglob('*.py')
    folders = {'.'.join(file.parent.relative_to(ROOT).parts) for file in files}
    assert set(distribution.packages) == folders


# Lock files


LOCKS = {
    'lock*.txt': ('onedl', 'pretrain', 'triton', 'dev'),
    'official.txt': ('openmmlab', 'dev'),
}


def locked(files: str) -> list:
    lines = [
        line
        for file in sorted((ROOT / 'requirements').glob(files))
        for line in file.read_text().splitlines()
    ]
    return [line for line in lines if not line.startswith('#')]


@pytest.mark.parametrize('files', LOCKS)
def test_lock_pins_every_line_once(files):
    for line in locked(files):
        assert re.fullmatch(r'[A-Za-z0-9._-]+==[A-Za-z0-9.]+', line), line
    names = [canonicalize_name(Requirement(line).name) for line in locked(files)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize('files', LOCKS)
def test_lock_has_the_requirements_and_extras(distribution, files):
    pins = dict(line.split('==') for line in locked(files))
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    wanted = list(distribution.install_requires)
    for extra in LOCKS[files]:
        wanted += distribution.extras_require[extra]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])


# Makefile and .ci/run


def test_help_lists_every_target():
    rules = re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
    shown = run('make', '--no-print-directory').stdout
    assert {'setup', 'demo', 'test', 'lint', 'clean', 'help'} <= set(rules)
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
    gone = ['tests/__pycache__/a', 'build/a', 'x.egg-info/a', '.ruff_cache/a', '.pytest_cache/a']
    for name in kept + gone:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('')
    for name in ('weightformer_mm', 'tools', 'configs'):
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


# What set-up refuses, before it makes anything


def test_wrong_python_is_named(tmp_path):
    fake = write_script(tmp_path / 'python', '[ "$1" = --version ] && echo Python 3.9.1; exit 1')
    result = run('make', '-s', 'setup', f'PYTHON={fake}', f'VENV={tmp_path}/env')
    assert result.returncode != 0
    assert f'PYTHON={fake} is not Python 3.11 (Python 3.9.1)' in result.stderr
    assert not (tmp_path / 'env').exists()


def test_no_python_on_the_path(tmp_path):
    path = folder_with(tmp_path / 'bin', 'sh', 'head', 'dirname')
    write_script(path / 'python3', 'exit 1')
    result = run('sh', SETUP / 'setup.sh', '', tmp_path / 'env', env={'PATH': str(path)})
    assert_one_line(result, 'no Python 3.11', 'PYTHON=/path')
    assert not (tmp_path / 'env').exists()


def preflight(*arguments, env=None):
    return run(sys.executable, SETUP / 'preflight.py', '--venv-gb', '0.001', *arguments, env=env)


@pytest.fixture(scope='module')
def wheel_env(tmp_path_factory):
    """Settings with which pip finds a wheel of onedl-mmcv, so that no compiler is needed."""
    folder = tmp_path_factory.mktemp('wheels')
    name, version = (ROOT / 'requirements/lock-mmcv.txt').read_text().split()[-1].split('==')
    stem = f'{name.replace("-", "_")}-{version}'
    info = f'{stem}.dist-info'
    texts = {
        'METADATA': f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n',
        'WHEEL': 'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n',
        'RECORD': '',
    }
    with zipfile.ZipFile(folder / f'{stem}-py3-none-any.whl', 'w') as wheel:
        for file, text in texts.items():
            wheel.writestr(f'{info}/{file}', text)
    return {'PATH': str(folder_with(folder / 'bin')), 'PIP_FIND_LINKS': str(folder)}


def test_no_disk_space(tmp_path, wheel_env):
    result = preflight('--venv', tmp_path / 'a/env', '--venv-gb', '1e9', env=wheel_env)
    assert_one_line(result, 'not enough disk space', str(tmp_path), 'GB needed')
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize('place', ['/proc/env', '/dev/null/env'])
def test_venv_cannot_be_written(place, wheel_env):
    result = preflight('--venv', place, env=wheel_env)
    assert_one_line(result, f'VENV={place} cannot be written')


def test_venv_of_somebody_else_is_left_alone(tmp_path, wheel_env):
    (tmp_path / 'mine').write_text('x')
    result = preflight('--venv', tmp_path, env=wheel_env)
    assert_one_line(result, f'VENV={tmp_path}', 'did not make')
    assert [p.name for p in tmp_path.iterdir()] == ['mine']


def preflight_without(module, venv, env=None):
    """The checks under an interpreter that lacks a module."""
    script = (
        f"import sys, runpy; sys.modules['{module}'] = None; "
        f"sys.argv = ['preflight.py', '--venv', '{venv}', '--venv-gb', '0.001']; "
        f"runpy.run_path('{SETUP}/preflight.py', run_name='__main__')"
    )
    return run(sys.executable, '-c', script, env=env)


def test_no_venv_module(tmp_path):
    assert_one_line(preflight_without('ensurepip', tmp_path / 'env'), 'has no venv module')


def test_interpreter_without_pip(tmp_path, wheel_env):
    result = preflight_without('pip', tmp_path / 'env', env=wheel_env)
    assert (result.returncode, result.stderr) == (0, '')


def test_every_problem_has_its_line(tmp_path):
    (tmp_path / 'bin').mkdir()
    env = {'PATH': str(tmp_path / 'bin'), 'PIP_FIND_LINKS': str(tmp_path)}
    result = preflight('--venv', tmp_path / 'env', '--venv-gb', '1e9', env=env)
    assert [line[:20] for line in result.stderr.splitlines()] == [
        'setup: not enough di',
        'setup: no C++ compil',
    ]


def test_compiler_is_needed_where_pip_has_no_wheel(tmp_path):
    env = {'PATH': str(folder_with(tmp_path / 'bin')), 'PIP_FIND_LINKS': str(tmp_path)}
    result = preflight('--venv', tmp_path / 'env', env=env)
    assert_one_line(result, 'no C++ compiler (g++)', 'no wheel')
    assert not (tmp_path / 'env').exists()


def test_compiler_that_does_not_compile(tmp_path):
    broken = write_script(tmp_path / 'bin/g++', 'echo "error: Python.h missing" >&2; exit 1')
    env = {'PATH': str(broken.parent), 'PIP_FIND_LINKS': str(tmp_path)}
    result = preflight('--venv', tmp_path / 'env', env=env)
    assert_one_line(result, 'g++ cannot build', 'Python.h missing', 'python3.11-dev')


def test_no_compiler_is_needed_with_a_wheel(tmp_path, wheel_env):
    result = preflight('--venv', tmp_path / 'env', env=wheel_env)
    assert (result.returncode, result.stderr) == (0, '')
    assert not any(tmp_path.iterdir())


# The steps


@pytest.fixture
def install(monkeypatch):
    """tools/setup/install.py as a module, with nothing refused."""
    monkeypatch.syspath_prepend(SETUP)
    module = importlib.import_module('install')
    monkeypatch.setattr(module, 'find_problems', lambda *_, **__: ([], False))
    yield module
    for name in ('install', 'mmcv_build', 'preflight', 'process'):
        sys.modules.pop(name, None)


@pytest.fixture
def environment(install, tmp_path):
    """A finished environment whose python writes down what it is asked to do, and does nothing."""
    write_script(tmp_path / 'env/bin/python', f'echo "$@" >> {tmp_path}/calls; exit $FAIL')
    install.write_state(tmp_path / 'env', install.wanted_state(tmp_path / 'env'))
    return tmp_path / 'env'


def calls(environment: Path) -> str:
    log = environment.parent / 'calls'
    return log.read_text() if log.exists() else ''


def test_finished_set_up_does_nothing(environment):
    before = {p: p.stat().st_mtime_ns for p in environment.rglob('*')}
    result = run(sys.executable, SETUP / 'install.py', '--venv', environment, env={'PATH': ''})
    assert (result.returncode, result.stdout) == (0, f'{environment} is up to date\n')
    assert {p: p.stat().st_mtime_ns for p in environment.rglob('*')} == before
    assert calls(environment) == ''


def start(install, environment, monkeypatch, fail='0'):
    monkeypatch.setenv('FAIL', fail)
    monkeypatch.setattr(sys, 'argv', ['install.py', '--venv', str(environment)])
    return install.main()


@pytest.mark.parametrize(
    ('stale', 'does', 'leaves_out'),
    [
        ('packages', 'lock.txt', '--editable'),
        ('project', f'--editable {ROOT}', 'lock.txt'),
        ('verified', 'import mmcv.ops, ', 'install'),
    ],
)
def test_only_what_is_stale_is_done(install, environment, monkeypatch, stale, does, leaves_out):
    state = install.read_state(environment)
    state[stale] = 'of another day'
    install.write_state(environment, state)
    assert start(install, environment, monkeypatch) == 0
    assert does in calls(environment)
    assert leaves_out not in calls(environment)
    assert install.is_complete(environment, install.read_state(environment))


def test_changed_lock_is_stale(install, environment, monkeypatch, tmp_path):
    copy = shutil.copytree(ROOT / 'requirements', tmp_path / 'requirements')
    monkeypatch.setattr(install, 'REQUIREMENTS', copy)
    assert install.is_complete(environment, install.read_state(environment))
    with (copy / 'lock.txt').open('a') as lock:
        lock.write('another==1\n')
    assert not install.is_complete(environment, install.read_state(environment))


def test_failed_step_is_told_and_done_again(install, environment, monkeypatch):
    state = {**install.read_state(environment), 'packages': 'old'}
    install.write_state(environment, state)
    with pytest.raises(install.StepFailed, match=r'lock-build.txt failed; the log is .*setup.log'):
        start(install, environment, monkeypatch, fail='1')
    assert install.read_state(environment)['packages'] == 'old'


def test_half_installed_packages_are_forgotten(install, tmp_path):
    site = tmp_path / 'lib/python3.11/site-packages'
    for name in ('whole-1.dist-info', 'half-1.dist-info'):
        (site / name).mkdir(parents=True)
        (site / name / 'METADATA').write_text('')
    (site / 'whole-1.dist-info/INSTALLER').write_text('pip\n')
    install.drop_half_installed(tmp_path)
    assert [p.name for p in site.iterdir()] == ['whole-1.dist-info']


def test_interrupted_mmcv_build_goes_on(install, tmp_path, monkeypatch):
    """The source and its object files stay; they are fetched once, and the wheel is kept."""
    build, titles = install.mmcv_build, []
    monkeypatch.setattr(build, 'build_environment', lambda *_: {})

    def pip(title, command, **_):
        titles.append(title.split()[0])
        if titles[-1] == 'Fetching':
            folder = tmp_path / 'onedl_mmcv-2'
            folder.mkdir()
            download = Path(command[command.index('--dest') + 1])
            download.mkdir(parents=True)
            shutil.make_archive(download / 'mmcv', 'gztar', tmp_path, folder.name)
        elif titles[-1] == 'Compiling':
            source = Path(command[-1])
            (source / 'build').mkdir(exist_ok=True)
            if not list(source.glob('build/*.o')):
                (source / 'build/a.o').write_text('')
                raise KeyboardInterrupt
            wheels = Path(command[command.index('--wheel-dir') + 1])
            wheels.mkdir()
            (wheels / 'onedl_mmcv-2.whl').write_text('')

    with pytest.raises(KeyboardInterrupt):
        build.install(tmp_path, 'key', pip, {})
    build.install(tmp_path, 'key', pip, {})
    assert titles == ['Fetching', 'Compiling', 'Compiling', 'Installing']
    assert (tmp_path / 'wheels/onedl_mmcv-2.whl').exists()
    assert not list(tmp_path.glob('mmcv-build-*'))


def test_build_progress_counts_object_files(install, tmp_path):
    folder = tmp_path / 'build/temp.linux/mmcv'
    folder.mkdir(parents=True)
    assert install.mmcv_build.progress(tmp_path) == 'preparing'
    (tmp_path / 'build/temp.linux/build.ninja').write_text(
        'rule compile\nbuild a.o: compile a.cpp\nbuild b.o: compile b.cpp\n'
    )
    (folder / 'a.o').write_text('')
    assert install.mmcv_build.progress(tmp_path) == '1 of 2 files compiled'


def test_long_step_shows_its_progress(install, tmp_path, monkeypatch, capsys):
    """The command ends when the heartbeat has been asked for, so no clock decides."""
    process = sys.modules['process']
    monkeypatch.setattr(process, 'HEARTBEAT_S', 0.01)
    asked = tmp_path / 'asked'

    def progress():
        asked.write_text('')
        return '3 of 4'

    command = ['sh', '-c', f'until [ -e {asked} ]; do sleep 0.01; done; echo said']
    with (tmp_path / 'lock').open('w') as lock:
        process.run_logged('Long', command, tmp_path / 'log', os.environ, lock.fileno(), progress)
    assert re.search(r'^  \d+:\d\d  3 of 4$', capsys.readouterr().out, re.MULTILINE)
    assert (tmp_path / 'log').read_text() == 'said\n'


def test_failure_shows_the_error_and_the_end_of_the_log(install, tmp_path):
    """A compiler's message stands far above the end of what pip says."""
    process = sys.modules['process']
    said = 'echo a.cpp:1: fatal error: no such header; seq 100; exit 3'
    log = tmp_path / 'log'
    log.write_text('error: of an earlier run\n')
    with (tmp_path / 'lock').open('w') as lock:
        with pytest.raises(process.StepFailed) as failure:
            process.run_logged('Step', ['sh', '-c', said], log, os.environ, lock.fileno())
    message = str(failure.value)
    assert message.startswith(f'Step failed; the log is {log}:')
    assert 'no such header' in message and message.endswith(' 100')
    assert 'earlier run' not in message and ' 50\n' not in message
