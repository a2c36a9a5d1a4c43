"""Set up the project's environment: what `make setup` runs.

Every step is recorded in the environment's state file once it is done. Running this again skips
what is recorded for the same requirement files, so an interrupted set-up goes on where it stopped.
"""

from __future__ import annotations

import argparse
import fcntl
import functools
import hashlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import mmcv_build
from preflight import (
    REQUIREMENTS,
    STATE_FILE,
    clean_environment,
    find_problems,
    mmcv_requirement,
    report,
)
from process import StepFailed, last_line, run_logged

ROOT = REQUIREMENTS.parent
CHECKED_IMPORTS = (
    'mmcv.ops',
    'mmdet.models',
    'mmseg.models',
    'mmpretrain.models',
    'weightformer_mm',
)


def digest(*texts: str) -> str:
    return hashlib.sha256('\0'.join(texts).encode()).hexdigest()[:16]


def wanted_state(venv: Path) -> dict:
    """What the state file holds after a complete set-up, step by step."""
    build = (REQUIREMENTS / 'lock-build.txt').read_text()
    lock = (REQUIREMENTS / 'lock.txt').read_text()
    torch = next(line for line in lock.splitlines() if line.startswith('torch=='))
    version = '{}.{}'.format(*sys.version_info)
    return {
        'venv': str(venv),
        'packages': digest(version, build, lock),
        'mmcv': digest(version, mmcv_requirement(), torch),
        'project': str(ROOT),
        'verified': digest(version, build, lock, mmcv_requirement()),
    }


def read_state(venv: Path) -> dict:
    try:
        return json.loads((venv / STATE_FILE).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def write_state(venv: Path, state: dict) -> None:
    scratch = venv / (STATE_FILE + '.tmp')
    scratch.write_text(json.dumps(state, indent=1) + '\n')
    scratch.replace(venv / STATE_FILE)


def drop_half_installed(venv: Path) -> None:
    """Forget packages that an interrupted pip left incomplete, so that pip installs them again.

    pip writes INSTALLER after the last file of a package.
    """
    for info in venv.glob('lib/python3*/site-packages/*.dist-info'):
        if not (info / 'INSTALLER').exists():
            shutil.rmtree(info)


def packages_progress(venv: Path) -> str:
    """How far pip is with the lock: packages in place, and what it does now."""
    done = len(list(venv.glob('lib/python3*/site-packages/*.dist-info/INSTALLER')))
    return f'{done} packages in place  {last_line(venv / "setup.log")}'


def install(venv: Path, state: dict, lock_fd: int) -> None:
    """Bring `venv` to the wanted state, one recorded step after the other."""
    wanted, env = wanted_state(venv), clean_environment()
    python = venv / 'bin' / 'python'
    pip_install = [str(python), '-m', 'pip', 'install', '--no-deps', '--no-build-isolation']
    run = functools.partial(run_logged, log=venv / 'setup.log', env=env, lock_fd=lock_fd)

    def step_done(name: str) -> None:
        state[name] = wanted[name]
        write_state(venv, state)

    if state.get('venv') != wanted['venv'] or not python.exists():
        state.clear()
        write_state(venv, state)
        for name in ('bin', 'lib', 'include'):
            shutil.rmtree(venv / name, ignore_errors=True)
        run('Making the environment', [sys.executable, '-m', 'venv', str(venv)])
        step_done('venv')
    if state.get('packages') != wanted['packages']:
        state.pop('verified', None)
        drop_half_installed(venv)
        for name in ('lock-build.txt', 'lock.txt'):
            command = [*pip_install, '-r', str(REQUIREMENTS / name)]
            run(f'Installing {name}', command, progress=lambda: packages_progress(venv))
        step_done('packages')
    if state.get('mmcv') != wanted['mmcv']:
        drop_half_installed(venv)
        mmcv_build.install(venv, wanted['mmcv'], run, env)
        step_done('mmcv')
    if state.get('project') != wanted['project']:
        run('Installing weightformer_mm', [*pip_install, '--editable', str(ROOT)])
        step_done('project')
    if state.get('verified') != wanted['verified']:
        run('Checking that the versions fit together', [str(python), '-m', 'pip', 'check'])
        imports = 'import ' + ', '.join(CHECKED_IMPORTS)
        run(f'Checking: {imports}', [str(python), '-c', imports])
        step_done('verified')


def is_complete(venv: Path, state: dict) -> bool:
    return state == wanted_state(venv) and (venv / 'bin' / 'python').exists()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--venv', required=True, help='where the environment is, or will be')
    venv = Path(os.path.abspath(parser.parse_args().venv))
    state = read_state(venv)
    if is_complete(venv, state):
        print(f'{venv} is up to date')
        return 0
    with_mmcv = state.get('mmcv') != wanted_state(venv)['mmcv']
    problems, compile_mmcv = find_problems(venv, with_mmcv=with_mmcv)
    if problems:
        return report(problems)
    print(f'Setting up {venv}; what pip says goes to {venv / "setup.log"}')
    if compile_mmcv:
        print(f'No wheel of onedl-mmcv found, so it will be compiled: {mmcv_build.estimate()}')
    venv.mkdir(parents=True, exist_ok=True)
    if not state:
        write_state(venv, state)
    with (venv / 'setup.lock').open('w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print('Waiting for another set-up that works here')
            fcntl.flock(lock, fcntl.LOCK_EX)
        install(venv, read_state(venv), lock.fileno())
    print(f'{venv} is ready')
    return 0


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, interrupted)
    try:
        sys.exit(main())
    except StepFailed as error:
        print(f'setup: {error}', file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print('\nsetup: interrupted; run it again to go on', file=sys.stderr)
        sys.exit(130)
