"""The shell scripts that start one process for each GPU; here with gloo, and with a stand-in for srun."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.commands import ENV, SEGMENTATION, TOOLS, options, warm_python

SCRIPTS = sorted([*TOOLS.glob('*.sh'), *TOOLS.glob('launchers/*.sh')])


@pytest.fixture
def blank(tmp_path) -> Path:
    """A folder with a blank in its name."""
    folder = tmp_path / 'my work'
    folder.mkdir()
    return folder


@pytest.fixture
def config(blank) -> Path:
    path = blank / 'my config.py'
    path.write_text(f"_base_ = '{SEGMENTATION}'\n")
    return path


def environment(**changes: object) -> dict[str, str]:
    """Without what launchers read, but for ``changes``."""
    read = {'NNODES', 'NODE_RANK', 'PORT', 'MASTER_ADDR', 'MASTER_PORT', 'RDZV_ENDPOINT', 'RDZV_ID'}
    read |= {'GPUS', 'GPUS_PER_NODE', 'CPUS_PER_TASK', 'SRUN_ARGS', 'MAX_RESTARTS'}
    kept = {key: value for key, value in os.environ.items() if key not in read}
    return {**kept, **ENV, 'PYTHON': sys.executable, **{k: str(v) for k, v in changes.items()}}


@pytest.fixture
def warm(tmp_path) -> dict[str, Path]:
    """Environment in which the scripts, and torchrun, start forks of the warm process for Python."""
    path = warm_python(tmp_path)
    return dict(PYTHON=path, PYTHON_EXEC=path)


def start(script: str | Path, *arguments: object, cwd: Path, **env: object) -> subprocess.Popen:
    return subprocess.Popen(
        ['sh', str(TOOLS / script), *map(str, arguments)],
        cwd=cwd,
        env=environment(**env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    out, err = process.communicate()
    assert process.returncode == 0, f'{out[-2000:]}\n{err[-4000:]}'
    return out


def two_steps(data: Path) -> list[str]:
    """One step on each of two processes, without validation."""
    small = dict(train_dataloader__dataset__indices=4, train_dataloader__batch_size=2)
    return options(SEGMENTATION, data, train_cfg__val_interval=5, **small)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return sock.getsockname()[1]


def steps(log: str) -> list[str]:
    return re.findall(r'Epoch\(train\) \[1\]\[(\d+/\d+)\]', log)


def test_two_processes_train_and_test(config, blank, shapes, warm):
    arguments = ('--work-dir', blank / 'out', *two_steps(shapes))
    workers = warm['PYTHON_EXEC']  # torchrun itself runs in a new process
    log = finish(start('dist_train.sh', config, 2, *arguments, cwd=blank, PYTHON_EXEC=workers))
    assert steps(log) == ['1/1'] and 'MMDistributedDataParallel' in log
    checkpoint = blank / 'out' / 'epoch_1.pth'
    metrics = ('--out', blank / 'results', '--work-dir', blank / 'test')
    more = options(SEGMENTATION, shapes)
    log = finish(start('dist_test.sh', config, checkpoint, 2, *metrics, *more, cwd=blank, **warm))
    assert re.search(r'Epoch\(test\) \[2/2\]', log)  # three images on two processes
    assert json.loads((blank / 'results/metrics.json').read_text()).keys() >= {'mIoU'}


def rendezvous(kind: str) -> list[dict]:
    port = free_port()
    if kind == 'elastic':
        return [dict(NNODES='2', RDZV_ENDPOINT=f'127.0.0.1:{port}', RDZV_ID='test')] * 2
    return [dict(NNODES=2, NODE_RANK=rank, MASTER_ADDR='127.0.0.1', PORT=port) for rank in (0, 1)]


# in place of tools/train.py
MEETING = """
import sys
import torch
import torch.distributed as dist

dist.init_process_group('gloo')
ranks = torch.tensor([10 ** dist.get_rank()])
dist.all_reduce(ranks)
if dist.get_rank() == 0:
    print('met:', ranks.item(), *sys.argv[1:])
"""


@pytest.mark.parametrize('kind', ['static', 'elastic'])
def test_two_machines(kind, blank, warm):
    """The processes of both meet; what a training does then is the same as on one machine."""
    tools = blank / 'tools'
    tools.mkdir()
    for name in ('dist_train.sh', 'launchers'):
        (tools / name).symlink_to(TOOLS / name)
    (tools / 'train.py').write_text(MEETING)
    nodes = [
        start(tools / 'dist_train.sh', 'my config.py', 1, '--amp', cwd=blank, **env, **warm)
        for env in rendezvous(kind)
    ]
    try:
        logs = [finish(node) for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    # which of them is the first is not settled in the elastic case
    assert sorted(logs) == ['', 'met: 11 my config.py --amp --launcher pytorch\n']


def test_signals_reach_the_launcher():
    """The script becomes the launcher, so that whoever stops the one stops the other."""
    for script in SCRIPTS:
        commands = [
            line for line in script.read_text().splitlines() if line and line[0] not in '# '
        ]
        assert commands[-1].startswith('exec ') or commands[-2].startswith('exec '), script


@pytest.mark.parametrize(
    ('script', 'arguments', 'missing'),
    [
        ('dist_train.sh', [], 'CONFIG GPUS'),
        ('dist_train.sh', ['config.py'], 'CONFIG GPUS'),
        ('dist_test.sh', ['config.py', 'a.pth'], 'CONFIG CHECKPOINT GPUS'),
        ('slurm_train.sh', ['gpu', 'job'], 'PARTITION JOB_NAME CONFIG'),
        ('slurm_test.sh', ['gpu', 'job', 'config.py'], 'PARTITION JOB_NAME CONFIG CHECKPOINT'),
    ],
)
def test_missing_arguments_show_the_usage(script, arguments, missing, tmp_path):
    process = start(script, *arguments, cwd=tmp_path)
    out, err = process.communicate()
    assert (process.returncode, out) == (2, '')
    (line,) = err.splitlines()
    assert line.startswith('usage: ') and script in line and missing in line


@pytest.mark.parametrize(
    ('script', 'arguments', 'env', 'expected'),
    [
        ('dist_train.sh', ['config.py', 'two'], {}, "GPUS is 'two'"),
        ('dist_test.sh', ['config.py', 'a.pth', '0'], {}, "GPUS is '0'"),
        ('dist_train.sh', ['c.py', 1], dict(NNODES=2), 'needs MASTER_ADDR and NODE_RANK'),
        ('slurm_train.sh', ['gpu', 'job', 'c.py'], dict(GPUS='all'), "'all' is not a number"),
    ],
)
def test_bad_arguments(script, arguments, env, expected, tmp_path):
    process = start(script, *arguments, cwd=tmp_path, **env)
    _, err = process.communicate()
    assert process.returncode == 2
    (line,) = err.splitlines()
    assert line.startswith('error: ') and expected in line


SRUN = """#!{python}
import json, os, subprocess, sys
from pathlib import Path

arguments = sys.argv[1:]
Path(os.environ['RECORD']).write_text(json.dumps(arguments))
tasks = next(int(a.partition('=')[2]) for a in arguments if a.startswith('--ntasks='))
command = arguments[arguments.index(os.environ['PYTHON']):]
slurm = dict(SLURM_NTASKS=str(tasks), SLURM_NODELIST='node[1-2]')
if os.environ.get('RUN') == '1':
    processes = [
        subprocess.Popen(command, env=dict(os.environ, **slurm, SLURM_PROCID=str(i), SLURM_LOCALID=str(i)))
        for i in range(tasks)
    ]
    sys.exit(max(process.wait() for process in processes))
"""
SCONTROL = """#!/bin/sh
[ "$*" = 'show hostnames node[1-2]' ] && printf '127.0.0.1\\n127.0.0.2\\n'
"""


@pytest.fixture
def slurm(tmp_path) -> dict[str, object]:
    """Environment with stand-ins for ``srun``, which notes its arguments, and ``scontrol``."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    for name, text in (('srun', SRUN.format(python=sys.executable)), ('scontrol', SCONTROL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return dict(PATH=f'{folder}:{os.environ["PATH"]}', RECORD=tmp_path / 'record.json')


def test_slurm_passes_the_arguments_on(slurm, config, blank):
    command = ('slurm_train.sh', 'gpu', 'my job', config, blank / 'out', '--amp')
    env = dict(GPUS=16, GPUS_PER_NODE=4, CPUS_PER_TASK=3, SRUN_ARGS='--time=1:00 --quiet')
    finish(start(*command, cwd=blank, **slurm, **env))
    assert json.loads(slurm['RECORD'].read_text()) == [
        *('-p', 'gpu', '--job-name=my job', '--gres=gpu:4', '--ntasks=16', '--ntasks-per-node=4'),
        *('--cpus-per-task=3', '--kill-on-bad-exit=1', '--time=1:00', '--quiet'),
        *(sys.executable, '-u', str(TOOLS / 'train.py'), str(config)),
        *('--work-dir', str(blank / 'out'), '--amp', '--launcher', 'slurm'),
    ]
    command = ('slurm_train.sh', 'gpu', 'job', config, '--resume')
    finish(start(*command, cwd=blank, **slurm, GPUS=2))
    arguments = json.loads(slurm['RECORD'].read_text())
    assert {'--gres=gpu:2', '--ntasks=2', '--ntasks-per-node=2'} <= set(arguments)
    assert arguments[-4:] == [str(config), '--resume', '--launcher', 'slurm']
    command = ('slurm_test.sh', 'gpu', 'job', config, 'my model.pth', '--tta')
    finish(start(*command, cwd=blank, **slurm))
    arguments = json.loads(slurm['RECORD'].read_text())
    assert {'--gres=gpu:8', '--ntasks=8', '--cpus-per-task=5'} <= set(arguments)
    tool = [str(TOOLS / 'test.py'), str(config), 'my model.pth', '--tta', '--launcher', 'slurm']
    assert arguments[-6:] == tool


def test_slurm_tasks_train_together(slurm, config, blank, shapes, warm):
    command = ('slurm_train.sh', 'gpu', 'job', config, blank / 'out', *two_steps(shapes))
    env = dict(slurm, **warm, RUN=1, GPUS=2, PORT=free_port())
    log = finish(start(*command, cwd=blank, **env))
    assert steps(log) == ['1/1'] and 'MMDistributedDataParallel' in log
    assert (blank / 'out' / 'epoch_1.pth').is_file()


def test_slurm_launcher_outside_of_slurm(tools, shapes):
    settings = options(SEGMENTATION, shapes)
    line = tools.run('train', SEGMENTATION, '--launcher', 'slurm', *settings).error_line()
    assert 'tools/slurm_train.sh PARTITION JOB_NAME CONFIG' in line


def test_unknown_first_machine(tools, shapes, tmp_path):
    variables = dict(
        SLURM_PROCID='0', SLURM_NTASKS='2', SLURM_NODELIST='n[1-2]', PATH=str(tmp_path)
    )
    arguments = ('--launcher', 'slurm', *options(SEGMENTATION, shapes))
    line = tools.run('train', SEGMENTATION, *arguments, env=variables).error_line()
    assert 'scontrol show hostnames n[1-2] failed' in line and 'set MASTER_ADDR' in line


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_of_plain_sh(script):
    assert os.access(script, os.X_OK)
    for shell in filter(shutil.which, ('sh', 'dash', 'bash')):
        subprocess.run([shell, '-n', str(script)], check=True)
    if shutil.which('shellcheck'):
        subprocess.run(['shellcheck', str(script)], check=True)


def test_the_rate_follows_the_batch(tools, shapes, tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(f"_base_ = '{SEGMENTATION}'\nauto_scale_lr = dict(base_batch_size=16)\n")
    arguments = ('--work-dir', tmp_path / 'out', '--auto-scale-lr', *two_steps(shapes))
    log = tools.run('train', config, *arguments).ok()
    assert 'Scaling the original LR by 0.125' in log
    line = tools.run('train', SEGMENTATION, *arguments).error_line()
    assert f'{SEGMENTATION} has no auto_scale_lr.base_batch_size' in line
