"""tools/make_shapes.py, run as a user would."""

from __future__ import annotations

import argparse
import json
import os
import resource
import runpy
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

import weightformer_mm.datasets
from tests.helpers.commands import WITHOUT_LIBRARIES, running
from weightformer_mm_cli.make_shapes import add_arguments

TOOL = Path(__file__).parents[2] / 'tools' / 'make_shapes.py'
PACKAGE_ROOT = Path(weightformer_mm.datasets.__file__).parents[2]
SMALL = ['--train', '3', '--val', '2', '--size', '64']
MANY = ['--train', '60', '--val', '2', '--size', '64']

COMMAND = [sys.executable, '-c', WITHOUT_LIBRARIES + running('make_shapes')]


def environment() -> dict[str, str]:
    return {**os.environ, 'PYTHONPATH': str(PACKAGE_ROOT)}


def run(*args, **kwargs) -> subprocess.CompletedProcess:
    command = [*COMMAND, *map(str, args)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, **kwargs)


def run_until_writing(out: Path, *args) -> subprocess.Popen:
    """Start the tool and return once its first pictures lie on disk."""
    process = subprocess.Popen(
        [*COMMAND, '--out', str(out), *args],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    picture = f'.{out.name}.partial-*/new/images/train/000003.png'
    while process.poll() is None and not any(out.parent.glob(picture)):
        time.sleep(0.005)
    return process


def one_line(text: str) -> str:
    """The only line of ``text`` beside the progress bar."""
    lines = [line for line in text.replace('\r', '\n').splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith('shapes:')]
    assert len(lines) == 1, text
    return lines[0]


def test_makes_a_set_then_finds_it_without_torch_and_openmmlab(tmp_path):
    first = run('--out', tmp_path / 'deep/set', *SMALL)
    assert first.returncode == 0, first.stderr
    assert 'made, 3 training and 2 validation' in one_line(first.stdout)
    assert '5/5' in first.stderr
    again = run('--out', tmp_path / 'deep/set', *SMALL)
    assert again.returncode == 0 and again.stderr == ''
    assert 'already there' in one_line(again.stdout)


@pytest.fixture
def run_here(monkeypatch, capsys):
    """A function that runs the tool within this process and gives its status, stdout and stderr."""

    def run_tool(*args) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, args)])
        monkeypatch.syspath_prepend(TOOL.parent)
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(TOOL), run_name='__main__')
        return (stop.value.code, *capsys.readouterr())

    return run_tool


@pytest.mark.parametrize(
    ('args', 'word'),
    [
        (['--size', '63'], 'size'),
        (['--train', '-4'], 'train'),
        (['--val', '-4'], 'val'),
        (['--seed', '-1'], 'seed'),
        (['--train', '0', '--val', '0'], 'nothing'),
        (['--context', '--size', '90'], 'reach'),
        (['--cue-area', '0.003'], 'context'),
    ],
)
def test_wrong_values_give_one_line(tmp_path, run_here, args, word):
    status, stdout, stderr = run_here('--out', tmp_path / 'set', *args)
    assert status == 2 and stdout == ''
    assert word in one_line(stderr)
    assert list(tmp_path.iterdir()) == []


def test_unparsable_value(tmp_path, run_here):
    status, _, stderr = run_here('--out', tmp_path / 'set', '--size', 'large')
    assert status == 2
    assert "--size: invalid int value: 'large'" in stderr


def test_help_names_every_option(run_here):
    status, stdout, _ = run_here('--help')
    assert status == 0
    options = '--out --train --val --size --seed --single --context --cue-area --reach --force'
    assert [option for option in options.split() if option not in stdout] == []


def test_defaults_are_those_of_the_config():
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    given = vars(parser.parse_args([]))
    config = asdict(weightformer_mm.datasets.ShapesConfig())
    assert {name: given[name] for name in config} == config


def test_single_makes_lists_of_classes(tmp_path, run_here):
    status, stdout, _ = run_here('--out', tmp_path / 'set', *SMALL, '--single')
    assert status == 0 and 'made, 3 training and 2 validation' in one_line(stdout)
    assert len((tmp_path / 'set/annotations/classes_train.txt').read_text().splitlines()) == 3


def test_context_makes_a_set_of_its_own(tmp_path, run_here):
    args = ['--train', '1', '--val', '1', '--size', '110', '--context', '--reach', '60']
    status, stdout, _ = run_here('--out', tmp_path / 'set', *args, '--cue-area', '0.003')
    assert status == 0 and 'made, 1 training and 1 validation' in one_line(stdout)
    parameters = json.loads((tmp_path / 'set/manifest.json').read_text())['parameters']
    assert parameters['context'] is True
    assert (parameters['reach'], parameters['cue_area']) == (60, 0.003)


def test_another_set_gives_one_line_unless_forced(tmp_path, run_here):
    assert run_here('--out', tmp_path / 'set', *SMALL)[0] == 0
    status, _, stderr = run_here('--out', tmp_path / 'set', *SMALL, '--seed', '5')
    assert status == 2 and '--force' in one_line(stderr)
    assert run_here('--out', tmp_path / 'set', *SMALL, '--seed', '5', '--force')[0] == 0


def test_foreign_folder_gives_one_line(tmp_path, run_here):
    (tmp_path / 'mine.txt').write_text('dear to me')
    status, _, stderr = run_here('--out', tmp_path, *SMALL, '--force')
    assert status == 2 and 'mine.txt' in one_line(stderr)
    assert (tmp_path / 'mine.txt').read_text() == 'dear to me'


def test_folder_that_cannot_be_made(tmp_path, run_here):
    (tmp_path / 'file').write_text('')
    status, _, stderr = run_here('--out', tmp_path / 'file/set', *SMALL)
    assert status == 2 and 'folder' in one_line(stderr)


def limit_file_size() -> None:
    """Make writes of larger pictures fail in this process, as a full disk does."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


def test_failing_write_gives_one_line_and_loses_nothing(tmp_path, run_here, read_tree):
    assert run_here('--out', tmp_path / 'set', *SMALL)[0] == 0
    before = read_tree(tmp_path)
    args = ['--out', tmp_path / 'set', *SMALL, '--seed', '5', '--force']
    done = run(*args, preexec_fn=limit_file_size)
    assert done.returncode == 2
    assert f'cannot write the folder {tmp_path / "set"}' in one_line(done.stderr)
    assert read_tree(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ['set']


def test_killed_run_leaves_nothing_trusted(tmp_path, run_here, read_tree):
    killed = run_until_writing(tmp_path / 'set', *MANY)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    killed.stderr.close()
    assert all(path.name.startswith('.set.') for path in tmp_path.iterdir())

    done = run('--out', tmp_path / 'set', *MANY)
    assert done.returncode == 0 and 'interrupted run' in one_line(done.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ['set']
    assert run_here('--out', tmp_path / 'undisturbed', *MANY)[0] == 0
    assert read_tree(tmp_path / 'set') == read_tree(tmp_path / 'undisturbed')


def test_ctrl_c_gives_one_line_and_leaves_nothing(tmp_path):
    process = run_until_writing(tmp_path / 'set', *MANY)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert 'interrupted' in one_line(stderr)
    assert list(tmp_path.iterdir()) == []
