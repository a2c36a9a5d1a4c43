"""Trainings that are stopped from outside: one line, what was saved is whole, and ``--resume`` goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.commands import QUICK, SEGMENTATION, harmed_config

EPOCHS = f'{QUICK}train_cfg = dict(max_epochs=3)\n'


@pytest.fixture
def train(tools, shapes, tmp_path):
    """Train segmentation on 8 images; ``more`` is added to the config."""

    def run(*arguments: object, more: str = '', workers: int = 0, folder: str = 'work', **harm):
        config = tmp_path / 'config.py'
        config.write_text(harmed_config(SEGMENTATION, shapes, workers) + EPOCHS + more)
        arguments = ('--work-dir', tmp_path / folder, *arguments)
        return tools.run('train', config, *arguments, env={'HARM': json.dumps(harm)})

    return run


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob('*.pth'))


def only_line(err: str) -> str:
    (line,) = err.splitlines()
    return line


@pytest.mark.parametrize(
    ('name', 'word', 'code'), [('SIGINT', 'interrupted', 130), ('SIGTERM', 'terminated', 143)]
)
def test_signal_while_a_checkpoint_is_saved(train, tmp_path, name, word, code):
    stopped = train(**{'while saving': name})
    assert stopped.code == code
    line = f'train.py: error: {word}; add --resume to continue from {tmp_path}/work/epoch_1.pth'
    # the note belongs to the checkpoint; what comes after the file is whole may find the signal first
    assert only_line(stopped.err) in (line, f'train.py: error: {word} before the first checkpoint')
    assert checkpoints(tmp_path / 'work') == ['epoch_1.pth']
    assert 'Continuing from' in train('--resume').ok()


@pytest.mark.parametrize(
    ('name', 'word', 'code'), [('SIGINT', 'interrupted', 130), ('SIGTERM', 'terminated', 143)]
)
def test_signal_in_the_middle_of_an_epoch(train, tmp_path, name, word, code):
    stopped = train(deed=name, iteration=6)
    assert stopped.code == code
    last = tmp_path / 'work/epoch_1.pth'
    assert only_line(stopped.err) == (
        f'train.py: error: {word}; add --resume to continue from {last}'
    )


INTERRUPTING_FINDER = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ['INTERRUPT_AT']:
            os.environ['INTERRUPT_AT'] = ''
            os.kill(os.getpid(), getattr(signal, os.environ['INTERRUPT_BY']))

sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize(
    ('module', 'name'),
    [
        ('torch._C', 'SIGTERM'),
        ('mmengine.runner.runner', 'SIGINT'),
        ('mmseg.models', 'SIGINT'),
    ],
)
def test_signal_while_libraries_are_imported(tools, shapes, tmp_path, module, name):
    (tmp_path / 'sitecustomize.py').write_text(INTERRUPTING_FINDER)
    (tmp_path / 'config.py').write_text(harmed_config(SEGMENTATION, shapes))
    path = os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')])
    environment = {'PYTHONPATH': path, 'INTERRUPT_AT': module, 'INTERRUPT_BY': name}
    if module == 'torch._C':
        stopped = tools.fresh('train', tmp_path / 'config.py', env=environment)
    else:
        started = tools.start('train', tmp_path / 'config.py', env=environment, openmmlab=False)
        stopped = started.wait()
    assert stopped.code == 128 + getattr(signal, name)
    assert re.fullmatch(r'train\.py: (interrupted|terminated)', only_line(stopped.err))


def test_a_worker_of_the_data_loader_is_killed(train, tmp_path):
    stopped = train(workers=2, deed='kill worker', iteration=6)
    assert stopped.code == 1
    line = only_line(stopped.err)
    assert re.match(
        r'train\.py: error: (a process that|process [\d, ]+, which) loads data,? \w+', line
    )
    assert line.endswith(f'--resume continues from {tmp_path}/work/epoch_1.pth')


def test_weights_that_the_last_step_spoils_are_not_saved(train, tmp_path):
    """The loss of the step was finite, so nothing else tells."""
    stopped = train(deed='spoil weight', iteration=12)
    assert stopped.code == 1
    line = only_line(stopped.err)
    assert 'backbone.stages.0.downsample.conv1.weight is not finite any more' in line
    assert line.endswith(f'--resume continues from {tmp_path}/work/epoch_2.pth')
    assert checkpoints(tmp_path / 'work') == ['epoch_1.pth', 'epoch_2.pth']
    unsaved = 'default_hooks = dict(checkpoint=dict(interval=-1, save_last=False))\n'
    stopped = train(more=unsaved, folder='unsaved', deed='spoil weight', iteration=12)
    assert stopped.code == 1 and 'is not finite any more' in only_line(stopped.err)


def test_second_training_in_a_folder(tools, train, shapes, tmp_path):
    config = tmp_path / 'first.py'
    config.write_text(harmed_config(SEGMENTATION, shapes) + QUICK)
    first = tools.start('train', config, '--work-dir', tmp_path / 'work')
    first.until(lambda: 'Saving checkpoint' in first.said()[0])
    os.kill(first.pid, signal.SIGSTOP)  # it runs, but not to its end
    for arguments in ((), ('--resume',)):
        line = train(*arguments).error_line()
        assert f'{tmp_path}/work: another training runs there (process {first.pid} on' in line
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait().code == -signal.SIGKILL
    saved = [int(path.stem[6:]) for path in (tmp_path / 'work').glob('epoch_*.pth')]
    train('--resume', '--cfg-options', f'train_cfg.max_epochs={max(saved, default=0) + 1}').ok()


def test_full_disk(train, small_disk, tmp_path):
    train(folder='whole', more='train_cfg.update(max_epochs=1)\n').ok()
    size = (tmp_path / 'whole/epoch_1.pth').stat().st_size
    for keep in (1, 2):
        more = f'default_hooks = dict(checkpoint=dict(max_keep_ckpts={keep}))\n'
        folder = small_disk(tmp_path / f'disk{keep}', str(int((keep + 0.5) * size)))
        stopped = train(more=more, folder=folder.name)
        assert stopped.code == 1
        assert only_line(stopped.err) == (
            f'train.py: error: cannot write {folder}/epoch_{keep + 1}.pth: No space left on device; once '
            f'that is put right, --resume continues from {folder}/epoch_{keep}.pth'
        )
        assert checkpoints(folder) == [f'epoch_{number + 1}.pth' for number in range(keep)]
        subprocess.run(['mount', '-o', 'remount,size=1g', str(folder)], check=True)
        train('--resume', more=more, folder=folder.name).ok()
        assert 'epoch_3.pth' in checkpoints(folder)


def test_full_disk_of_the_logs(train, small_disk, tmp_path):
    """What is written every iteration is not said every iteration."""
    folder = small_disk(tmp_path / 'disk', '64k')
    more = 'default_hooks = dict(logger=dict(interval=1))\n'
    stopped = train(more=more, folder='disk')
    assert stopped.code == 1
    line = only_line(stopped.err)
    assert line.startswith('train.py: error: cannot write ') and str(folder) in line


def test_what_a_tool_forks_dies_without_a_word():
    """As the pool of an evaluator does, when it is closed."""
    code = """
import multiprocessing, time
from weightformer_mm_cli.running import _handle_signals

_handle_signals()
child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,))
child.start()
child.terminate()
child.join()
print(child.exitcode)
"""
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert (run.stdout, run.stderr) == (f'{-signal.SIGTERM}\n', '')


def test_a_signal_during_a_fork_is_not_lost():
    """What a callback of a fork raises, Python prints and forgets."""
    code = """
import os, signal, time
os.register_at_fork(before=lambda: os.kill(os.getpid(), signal.SIGTERM))
from weightformer_mm_cli.running import _handle_signals

_handle_signals()
try:
    if not os.fork():
        os._exit(0)
    time.sleep(30)
except BaseException as error:
    print(type(error).__name__)
"""
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert (run.stdout, run.stderr) == ('Termination\n', '')
