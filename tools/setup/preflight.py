"""Checks made before anything is installed: one line for each thing that is missing.

Needs the standard library only. Leaves nothing behind.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

STATE_FILE = 'weightformer_mm-setup.json'
REQUIREMENTS = Path(__file__).resolve().parents[2] / 'requirements'

# Measured: 6.1 GB of environment and 0.3 GB of compiled objects; 2.2 GB of packages to download.
VENV_GB = 6.5
DOWNLOAD_GB = 2.5


def mmcv_requirement() -> str:
    """The pin of onedl-mmcv, for example `onedl-mmcv==2.3.6`."""
    lines = (REQUIREMENTS / 'lock-mmcv.txt').read_text().splitlines()
    return next(line for line in lines if line and not line.startswith('#'))


def clean_environment() -> dict:
    """The environment for Python children: PYTHONPATH would hide or fake installed packages."""
    return {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'PYTHONHOME')}


def compiler() -> list:
    """The C++ compiler's command: $CXX, or g++."""
    return shlex.split(os.environ.get('CXX', '')) or ['g++']


def existing_parent(path: Path) -> Path:
    return next(p for p in [path, *path.parents] if p.exists())


def check_interpreter() -> list:
    machine = (platform.python_implementation(), platform.system(), platform.machine())
    if machine != ('CPython', 'Linux', 'x86_64'):
        return ['the lock file is for CPython on Linux x86_64, this is ' + ' '.join(machine)]
    if not all(importlib.util.find_spec(name) for name in ('venv', 'ensurepip')):
        return [f'{sys.executable} has no venv module: install it (Debian: python3.11-venv)']
    return []


def check_place(target: Path) -> list:
    """The environment's folder must be ours or new, and writable."""
    try:
        if target.exists() and not (target / STATE_FILE).exists() and any(target.iterdir()):
            return [
                f'VENV={target} holds something that `make setup` did not make: '
                'remove it, or give another VENV'
            ]
        tempfile.TemporaryFile(dir=existing_parent(target)).close()
    except OSError as error:
        return [f'VENV={target} cannot be written: {error.strerror}']
    return []


def check_disk(target: Path, venv_gb: float) -> list:
    """Free space for the environment, pip's downloads and pip's cache of them.

    They may lie on one file system, or on three.

    What an interrupted set-up already installed is not asked for again.
    """
    present = sum(p.lstat().st_size for p in target.rglob('*')) / 1e9
    missing = max(0.0, 1 - present / venv_gb)
    temporary, cache = Path(tempfile.gettempdir()), Path.home() / '.cache'
    cache = Path(os.environ.get('PIP_CACHE_DIR') or os.environ.get('XDG_CACHE_HOME') or cache)
    needs = {}
    for path, gigabytes in [
        (target, venv_gb),
        (temporary, DOWNLOAD_GB),
        (cache, DOWNLOAD_GB),
    ]:
        place = existing_parent(path)
        device = place.stat().st_dev
        place, sofar = needs.get(device, (place, 0.0))
        needs[device] = (place, sofar + missing * gigabytes)
    return [
        f'not enough disk space at {place}: {shutil.disk_usage(place).free / 1e9:.1f} GB free, '
        f'{gigabytes:.1f} GB needed'
        for place, gigabytes in needs.values()
        if shutil.disk_usage(place).free < gigabytes * 1e9
    ]


def check_compiler() -> list:
    """A compiler that can build a Python extension in C++17."""
    command = compiler()
    hint = 'onedl-mmcv is compiled, as pip finds no wheel of it'
    if shutil.which(command[0]) is None:
        return [f'no C++ compiler ({command[0]}) on the PATH: install g++ ({hint})']
    trial = subprocess.run(
        [
            *command,
            '-std=c++17',
            '-fsyntax-only',
            '-I' + sysconfig.get_paths()['include'],
            *('-x', 'c++', '-'),
        ],
        input='#include <Python.h>\n#include <optional>\n',
        stderr=subprocess.PIPE,
        text=True,
    )
    if trial.returncode:
        reason = next((line for line in trial.stderr.splitlines() if 'error' in line), 'it fails')
        return [
            f'{command[0]} cannot build a C++17 extension for {sys.executable} ({reason}): '
            f'install the headers (Debian: g++ and python3.11-dev) ({hint})'
        ]
    return []


def has_mmcv_wheel() -> bool:
    """Ask pip, with its own settings, for a wheel of onedl-mmcv."""
    with tempfile.TemporaryDirectory() as scratch:
        python = sys.executable
        if importlib.util.find_spec('pip') is None:
            venv.create(scratch, with_pip=True)
            python = f'{scratch}/bin/python'
        command = [python, '-m', 'pip', 'download', '--no-deps', '--only-binary=:all:']
        command += ['--dest', scratch, mmcv_requirement()]
        output = subprocess.DEVNULL
        return not subprocess.call(command, env=clean_environment(), stdout=output, stderr=output)


def find_problems(target: Path, venv_gb: float = VENV_GB, with_mmcv: bool = True) -> tuple:
    """All checks. Returns the problems found, and whether onedl-mmcv must be compiled."""
    problems = check_interpreter() + check_place(target)
    problems = problems or check_disk(target, venv_gb)
    if not all(map(importlib.util.find_spec, ('venv', 'ensurepip'))) or not with_mmcv:
        return problems, False
    compile_mmcv = not has_mmcv_wheel()
    return problems + (check_compiler() if compile_mmcv else []), compile_mmcv


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--venv', type=Path, required=True, help='where the environment will be')
    parser.add_argument('--venv-gb', type=float, default=VENV_GB, help='space it needs, in GB')
    args = parser.parse_args()
    return report(find_problems(Path(os.path.abspath(args.venv)), args.venv_gb)[0])


def report(problems: list) -> int:
    """Print the problems; returns the exit code."""
    for problem in problems:
        print(f'setup: {problem}', file=sys.stderr)
    return 2 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
