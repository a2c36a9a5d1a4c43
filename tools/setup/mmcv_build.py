"""Bring onedl-mmcv and its operators into the environment: from a wheel, or compiled."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Callable

from preflight import compiler, mmcv_requirement
from process import StepFailed

# Measured on two 2.6 GHz cores: minutes of one core that compiling the CPU operators takes.
CORE_MINUTES = 15
# Resident memory of one compiler process.
JOB_GB = 1.5


def jobs() -> int:
    """Compiler processes at a time: $MAX_JOBS, or one per core as far as the memory reaches."""
    wish = os.environ.get('MAX_JOBS', '')
    if wish.isdigit():
        return max(1, int(wish))
    memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9
    return max(1, min(len(os.sched_getaffinity(0)), int(memory / JOB_GB)))


def estimate() -> str:
    count = jobs()
    return f'about {max(1, round(CORE_MINUTES / count))} minutes with {count} compiler processes'


def cuda_toolkit_fits(python: Path, env: dict) -> bool:
    """Whether there is a GPU, and an nvcc of the CUDA version that torch was built for."""
    query = (
        'import torch; from torch.utils.cpp_extension import CUDA_HOME;'
        'print(torch.version.cuda if torch.cuda.is_available() and CUDA_HOME else "", CUDA_HOME)'
    )
    answer = subprocess.run([str(python), '-c', query], env=env, capture_output=True, text=True)
    if answer.returncode:
        raise StepFailed(f'torch cannot be imported by {python}:\n{answer.stderr}')
    version, _, home = answer.stdout.strip('\n').partition(' ')
    nvcc = Path(home, 'bin', 'nvcc')
    if not version or not nvcc.exists():
        return False
    banner = subprocess.run([str(nvcc), '--version'], stdout=subprocess.PIPE, text=True).stdout
    release = re.search(r'release (\d+)', banner)
    return release is not None and release.group(1) == version.split('.')[0]


def build_environment(python: Path, env: dict) -> dict:
    """Variables that onedl-mmcv's setup.py reads; the user's own settings come first."""
    # -g0: without the debug symbols that Python asks for, it compiles in half the time.
    env = {'MMCV_WITH_OPS': '1', 'CC': 'gcc', 'CFLAGS': '-g0', **env}
    env.update(MAX_JOBS=str(jobs()), CXX=shlex.join(compiler()))
    env['PATH'] = f'{python.parent}{os.pathsep}{env["PATH"]}'  # for ninja
    if env.get('FORCE_CUDA') != '1' and not cuda_toolkit_fits(python, env):
        print('Operators for the CPU alone: no GPU, or no nvcc of the CUDA version of torch')
        env['CUDA_VISIBLE_DEVICES'] = ''  # its setup.py then leaves the CUDA sources out
    return env


def unpack(archive: Path, target: Path) -> None:
    """Unpack a source archive of one top folder as `target`, all or nothing."""
    scratch = target.with_suffix('.partial')
    shutil.rmtree(scratch, ignore_errors=True)
    with tarfile.open(archive) as tar:
        tar.extraction_filter = getattr(tarfile, 'data_filter', None)
        tar.extractall(scratch)
    (top,) = scratch.iterdir()
    top.rename(target)
    scratch.rmdir()


def progress(source: Path) -> str:
    """How many object files of the build are there."""
    done = sum(1 for _ in source.glob('build/temp*/**/*.o'))
    plans = [plan.read_text() for plan in source.glob('build/temp*/**/build.ninja')]
    total = sum(
        line.startswith('build ') and '.o:' in line for p in plans for line in p.split('\n')
    )
    return f'{done} of {total} files compiled' if total else 'preparing'


def install(venv: Path, key: str, run: Callable[..., None], env: dict) -> None:
    """Install the pinned onedl-mmcv. A build that was interrupted goes on where it stopped.

    Args:
        key: names this combination of versions; a build tree of another one is thrown away.
        run: `run(title, command, env=, progress=)`, as in process.run_logged.
    """
    requirement, python = mmcv_requirement(), venv / 'bin' / 'python'
    pip = [str(python), '-m', 'pip']
    work = venv / f'mmcv-build-{key}'
    source, wheels, download = work / 'source', work / 'wheels', work / 'download'
    if not source.exists():
        shutil.rmtree(work, ignore_errors=True)
        options = ['--no-deps', '--no-build-isolation', '--dest', str(download)]
        run(f'Fetching {requirement}', [*pip, 'download', *options, requirement])
        (found,) = download.iterdir()
        if found.suffix == '.whl':
            wheels = download
        else:
            unpack(found, source)
    if source.exists():
        shutil.rmtree(wheels, ignore_errors=True)
        options = ['--no-deps', '--no-build-isolation', '--wheel-dir', str(wheels)]
        run(
            f'Compiling the operators of {requirement}: {estimate()}',
            [*pip, 'wheel', *options, str(source)],
            env=build_environment(python, env),
            progress=lambda: progress(source),
        )
    (wheel,) = wheels.glob('*.whl')
    run('Installing it', [*pip, 'install', '--no-deps', '--force-reinstall', str(wheel)])
    keep = venv / 'wheels'
    shutil.rmtree(keep, ignore_errors=True)
    wheels.rename(keep)
    for tree in venv.glob('mmcv-build-*'):
        shutil.rmtree(tree)
