"""Compile the operators of onedl-mmcv, if pip finds no wheel of it."""

import os
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Callable

COMPILER = shlex.split(os.environ.get('CXX', '')) or ['g++']
# Fails unless there is a GPU, and an nvcc of the CUDA version that torch was built for.
CUDA_FITS = """
import subprocess, torch, torch.utils.cpp_extension as extension
assert torch.cuda.is_available() and extension.CUDA_HOME
banner = subprocess.check_output([extension.CUDA_HOME + '/bin/nvcc', '--version'], text=True)
assert f'release {torch.version.cuda.split(".")[0]}.' in banner
"""


def can_compile() -> bool:
    """Whether there is a compiler of C++17, and the headers of this Python."""
    include = sysconfig.get_paths()['include']
    command = [*COMPILER, '-std=c++17', '-fsyntax-only', f'-I{include}', '-x', 'c++', '-']
    source = b'#include <Python.h>\n#include <optional>\n'
    found = shutil.which(COMPILER[0]) is not None
    return found and not subprocess.run(command, input=source, capture_output=True).returncode


def join(folder: Path) -> None:
    """Make one source file of the small ones: compiled alone, each repeats the templates of torch."""
    small = sorted(set(folder.glob('*.cpp')) - {folder / 'pybind.cpp'})
    renamed = [file.rename(file.with_suffix('.inc')).name for file in small]
    (folder / 'operators.cpp').write_text(''.join(f'#include "{name}"\n' for name in renamed))


def compile_wheel(pin: str, wheels: Path, work: Path, python: Path, run: Callable) -> None:
    """Compile `pin` in the folder `work`, where an interrupted build continues."""
    source, unpacked, partial = work / 'source', work / 'unpacked', work / 'header.gch'
    pip, options = [python, '-m', 'pip'], ['--no-deps', '--no-build-isolation']
    if not source.exists():
        shutil.rmtree(work, ignore_errors=True)
        fetch = [*pip, 'download', '--quiet', '--no-binary=:all:', *options, '--dest', work, pin]
        run(f'Fetching the sources of {pin}', fetch)
        shutil.unpack_archive(next(work.iterdir()), unpacked)
        folder = next(unpacked.iterdir())
        join(folder / 'mmcv/ops/csrc/pytorch')
        folder.rename(source)
    # CFLAGS replaces Python's flags, whose debug symbols would double the time
    env = {'MMCV_WITH_OPS': '1', 'CC': 'gcc', 'CFLAGS': '-O2 -g0', **os.environ}
    env.update(CXX=shlex.join(COMPILER), PATH=f'{python.parent}:{env["PATH"]}')  # for ninja
    cuda = subprocess.run([python, '-c', CUDA_FITS], env=env, capture_output=True)
    if env.get('FORCE_CUDA') != '1' and cuda.returncode:
        env['CUDA_VISIBLE_DEVICES'] = ''  # its setup.py then leaves the CUDA sources out
    # all files include it, and it takes longer to compile than they do: g++ compiles it once beforehand
    header = source / 'mmcv/ops/csrc/common/pytorch_cpp_helper.hpp'
    if not (compiled := header.with_suffix('.hpp.gch')).exists():
        torch = next(python.parents[1].glob('lib/python3*/site-packages/torch/include'))
        # g++ uses it for the files only if it has their options
        command = [*COMPILER, *env['CFLAGS'].split(), '-fPIC', '-std=c++17', f'-I{torch}']
        command += [f'-I{torch}/torch/csrc/api/include', '-x', 'c++-header', header, '-o', partial]
        run('Compiling the header of the operators', command)
        partial.rename(compiled)
    env['CFLAGS'] += f' -include {shlex.quote(str(header))}'
    command = [*pip, 'wheel', *options, '--wheel-dir', wheels, source]
    run('Compiling the operators: about 3 minutes on one core', command, env)
    shutil.rmtree(work)
