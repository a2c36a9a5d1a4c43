"""Make the project's environment: `make setup` runs this, to begin or to continue."""

import ast
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import operators

ROOT = Path(__file__).resolve().parents[2]
LOCKS = [ROOT / 'requirements' / f'lock{part}.txt' for part in ('-build', '', '-last')]
STATE_FILE = 'weightformer_mm-setup.txt'
ENVIRONMENT_GB = 6.5
IMPORTS = 'import mmcv.ops, mmdet.models, mmseg.models, mmpretrain.models, weightformer_mm'
PIP_SETTINGS = {'index-url', 'extra-index-url', 'find-links', 'trusted-host', 'cert'}  # uv's too


def refuse(problem: str) -> None:
    """End set-up with one line on what is missing."""
    print(f'setup: {problem}', file=sys.stderr)
    sys.exit(2)


def run(title: str, command: list, env: dict | None = None) -> None:
    """Run a command; if set-up is interrupted, end it and all that it started."""
    print(f'{title} ...', flush=True)
    # with close_fds=False the child inherits set-up's lock, and holds it even if set-up is killed
    child = subprocess.Popen(command, env=env, cwd=ROOT, close_fds=False, start_new_session=True)
    try:
        if child.wait():
            sys.exit(f'setup: this failed: {title}')
    except KeyboardInterrupt:
        os.killpg(child.pid, signal.SIGTERM)
        child.wait()
        raise


def pin(name: str) -> str:
    """What the locks say of a package: `name==version`."""
    return re.search(rf'^{name}==[^\s;]+', '\n'.join(lock.read_text() for lock in LOCKS), re.M)[0]


def state(venv: Path) -> str:
    """What the state file holds after a complete set-up."""
    return '\n'.join([sys.version, str(venv), *(lock.read_text() for lock in LOCKS)])


def is_complete(venv: Path) -> bool:
    python, file = venv / 'bin/python', venv / STATE_FILE
    return python.exists() and file.exists() and file.read_text() == state(venv)


def claim(venv: Path) -> None:
    """Mark the folder as ours; refuse one that is not ours, one that cannot be written, and a full disk."""
    try:
        if venv.exists() and any(venv.iterdir()) and not (venv / STATE_FILE).exists():
            refuse(f'VENV={venv} holds files not made by `make setup`: remove it, or give another')
        present = sum(path.lstat().st_size for path in venv.rglob('*')) / 1e9
        place = next(path for path in (venv, *venv.parents) if path.exists())
        free, needed = shutil.disk_usage(place).free / 1e9, ENVIRONMENT_GB - present
        if free < needed:
            refuse(f'{place} has {free:.1f} GB of free disk space; {needed:.1f} GB are needed')
        venv.mkdir(parents=True, exist_ok=True)
        (venv / STATE_FILE).touch()
    except OSError as error:
        refuse(f'VENV={venv} cannot be written: {error.strerror}')


def uv_options(python: Path) -> list:
    """pip's settings, from its variables and files, as options of uv."""
    answer = subprocess.check_output([python, '-m', 'pip', 'config', 'list'], text=True)
    options, settings = ['--index-strategy', 'unsafe-best-match'], {}
    for line in sorted(answer.splitlines(), reverse=True):  # `:env:` is last, and counts more
        name, _, value = line.partition('=')
        settings[name.rpartition('.')[2]] = ast.literal_eval(value)
    for name in PIP_SETTINGS & settings.keys():
        options += [f'--{name}={value}' for value in settings[name].split()]
    return options + (['--no-index'] if 'no-index' in settings else [])


def install(venv: Path) -> None:
    """Make the environment anew, from the packages in uv's cache if they are there."""
    (venv / STATE_FILE).write_text('')
    for name in ('bin', 'lib', 'include'):
        shutil.rmtree(venv / name, ignore_errors=True)
    run('Making the environment', [sys.executable, '-m', 'venv', venv])
    python, mmcv, torch = venv / 'bin/python', pin('onedl-mmcv'), pin('torch')
    pip, wheels = [python, '-m', 'pip'], venv / 'wheels' / torch.replace('==', '-')
    wheels.mkdir(parents=True, exist_ok=True)
    download = ['--no-deps', '--only-binary=:all:', '--find-links', wheels, '--dest', wheels]
    download = [*pip, 'download', *download, mmcv]
    found = subprocess.run(download, capture_output=True).returncode == 0
    if not found and not operators.can_compile():
        tools = f'{operators.COMPILER[0]} and the headers of Python (Debian: g++, python3-dev)'
        refuse(f'pip finds no wheel of {mmcv}; to compile it, install {tools}')
    build = ['--no-deps', '--require-hashes', '--requirement', LOCKS[0]]
    run('Installing uv', [*pip, 'install', '--quiet', *build])
    uv = [venv / 'bin/uv', 'pip']
    sync = [*uv, 'sync', '--python', python, '--no-build-isolation', *uv_options(python)]
    for count in (1, 2):
        run('Installing the packages', [*sync, *LOCKS[:count]])
    if not found:
        operators.compile_wheel(mmcv, wheels, venv / 'build' / wheels.name / mmcv, python, run)
    run('Installing the last packages', [*sync, '--find-links', wheels, *LOCKS])
    run('Checking that the versions fit together', [*uv, 'check', '--python', python])
    run(f'Checking: {IMPORTS}', [python, '-c', IMPORTS])
    (venv / STATE_FILE).write_text(state(venv))


def main(venv: Path) -> None:
    if not is_complete(venv):
        claim(venv)
        with (venv / 'setup.lock').open('w') as lock:
            os.set_inheritable(lock.fileno(), True)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_complete(venv):
                install(venv)
    packages = next(venv.glob('lib/python3*/site-packages'))
    (packages / 'weightformer_mm.pth').write_text(f'{ROOT}\n')
    print(f'{venv} is ready')


if __name__ == '__main__':
    os.environ.pop('PYTHONPATH', None)  # it would hide what is installed
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main(Path(os.path.abspath(sys.argv[1])))
    except KeyboardInterrupt:
        sys.exit('setup: interrupted; run it again to continue')
