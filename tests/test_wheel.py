"""The wheel, installed into an environment of its own: everything works without the checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.helpers.commands import ROOT, SEGMENTATION, Tools, options
from weightformer_mm_cli.main import COMMANDS

BUILT_FROM = ('weightformer_mm', 'weightformer_mm_cli', 'configs', 'tools')
FILES = ('setup.py', 'pyproject.toml', 'README.md', 'LICENSE', 'model-index.yml')


def pip(*arguments: object) -> None:
    command = [sys.executable, '-m', 'pip', *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope='module')
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, which the build fills with files of its own."""
    folder = tmp_path_factory.mktemp('build')
    for name in BUILT_FROM:
        hidden = shutil.ignore_patterns('__pycache__')
        shutil.copytree(ROOT / name, folder / 'source' / name, symlinks=True, ignore=hidden)
    for name in FILES:
        shutil.copy(ROOT / name, folder / 'source')
    flags = ('--no-deps', '--no-build-isolation', '--no-index', '--quiet')
    pip('wheel', *flags, '--wheel-dir', folder, folder / 'source')
    return next(folder.glob('*.whl'))


def test_it_holds_the_package_and_its_recipes(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    inside = [name for name in names if not name.split('/')[0].endswith('.dist-info')]
    assert {name.split('/')[0] for name in inside} == {'weightformer_mm', 'weightformer_mm_cli'}
    recipes = {path.relative_to(ROOT).as_posix() for path in ROOT.glob('configs/**/*.*')}
    recipes = {name for name in recipes if 'context' not in name}
    recipes |= {'model-index.yml', *(f'tools/{n}.py' for n in ('train', 'test', 'command_line'))}
    prefix = 'weightformer_mm/.mim/'
    assert {name[len(prefix) :] for name in inside if name.startswith(prefix)} == {
        name for name in recipes if not name.endswith('.pyc')
    }
    code = {path.relative_to(ROOT).as_posix() for path in ROOT.glob('weightformer_mm*/**/*.py')}
    assert {name for name in inside if not name.startswith(prefix)} == {
        *code,
        'weightformer_mm/py.typed',
    }


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory):
    """The command of an environment that has the wheel, and sees this one's other packages."""
    folder = tmp_path_factory.mktemp('installed')
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', folder / 'env'], check=True)
    pip('--python', folder / 'env/bin/python', 'install', '--no-deps', '--no-index', wheel)
    (packages,) = folder.glob('env/lib/python*/site-packages')
    # paths that a .pth names are searched, but their own .pth files are not read: no checkout is found
    (packages / 'others.pth').write_text('\n'.join(site.getsitepackages()))
    (folder / 'work').mkdir()
    return Tools(folder / 'work', {'PYTHONPATH': ''}, folder / 'env/bin')


def test_trains_tests_and_infers_from_anywhere(installed, shapes):
    work = installed.folder
    mine = work / 'mine.py'
    mine.write_text(
        f"_base_ = 'weightformer_mm::shapes/{SEGMENTATION.name}'\n"
        'import weightformer_mm\nhome = weightformer_mm.__file__\n'
    )
    short = options(SEGMENTATION, shapes, train_cfg__val_interval=9)
    log = installed.run('train', mine, '--work-dir', work / 'out', *short).ok()
    (home,) = re.findall(r"^home ?= ?'(.*)'", log, re.MULTILINE)
    assert home.startswith(f'{installed.bin.parent}/lib/') and str(ROOT) not in log
    arguments = ('--out', work / 'result', '--work-dir', work / 'test')
    installed.run('test', mine, work / 'out/epoch_1.pth', *arguments, *short).ok()
    assert 'mIoU' in json.loads((work / 'result/metrics.json').read_text())
    images = shapes / 'images/val'
    installed.run('infer', mine, work / 'out/epoch_1.pth', images, '--out', work / 'drawn').ok()
    assert len(list((work / 'drawn').glob('*.png'))) == len(list(images.iterdir()))
    shipped = ('--weights', 'mask-rcnn_pyramid-weightformer-micro_fpn_shapes')
    assert '3 pictures' in installed.run('infer', *shipped, images, '--out', 'shipped').ok()


LIGHT = """
import sys
for name in {absent}:
    sys.modules[name] = None
sys.argv = ['weightformer-mm', *{arguments}]
from weightformer_mm_cli.main import main
main()
"""


def light(tools: Tools, *arguments: str, **kwargs) -> subprocess.CompletedProcess:
    """Run the command where importing the package, or anything large, fails."""
    absent = ('weightformer_mm', 'torch', 'mmengine', 'numpy', 'yaml')
    code = LIGHT.format(absent=absent, arguments=arguments)
    env = {**os.environ, **tools.env, **kwargs.pop('env', {})}
    command = [str(tools.bin / 'python'), '-c', code]
    return subprocess.run(command, env=env, capture_output=True, text=True, **kwargs)


def test_help_and_wrong_options_need_no_library(installed):
    shown = light(installed, '--help')
    assert shown.returncode == 0, shown.stderr
    assert {line.split()[0] for line in shown.stdout.splitlines() if line} >= set(COMMANDS)
    shown = light(installed, 'train', '--help')
    assert shown.returncode == 0 and '--auto-scale-lr' in shown.stdout
    wrong = light(installed, 'train', 'a.py', '--launcher', 'mine')
    assert wrong.returncode == 2 and "invalid choice: 'mine'" in wrong.stderr


def test_the_shell_completes(installed, tmp_path):
    pytest.importorskip('argcomplete')
    line = 'weightformer-mm check-dataset --da'
    asked = dict(_ARGCOMPLETE='1', COMP_LINE=line, COMP_POINT=str(len(line)), _ARGCOMPLETE_IFS='\n')
    asked['_ARGCOMPLETE_STDOUT_FILENAME'] = str(tmp_path / 'answer')
    light(installed, env=asked)
    assert (tmp_path / 'answer').read_text().strip() == '--data-root'


def test_bad_input_is_one_line(installed):
    line = installed.run('train', 'none.py').error_line()
    assert line == 'weightformer-mm: error: config not found: none.py'


def test_every_tool_has_the_options_of_its_command():
    """The scripts are thin: they name a command, whose parser is theirs."""
    shells = [
        path.read_text() for path in ROOT.glob('tools/*.py') if 'import main\n' in path.read_text()
    ]
    assert sorted(text.split("main('")[1].split("'")[0] for text in shells) == sorted(COMMANDS)
