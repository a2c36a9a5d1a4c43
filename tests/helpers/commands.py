"""Running the command lines as a user would, with schedules of a few iterations."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / 'tools'
# as in configs/shapes, with small networks
DETECTION = ROOT / 'tests/configs/mask-rcnn_pyramid-weightformer-micro_fpn_shapes.py'
SEGMENTATION = ROOT / 'tests/configs/upernet_pyramid-weightformer-micro_shapes.py'
CLASSIFICATION = ROOT / 'tests/configs/pyramid-weightformer-micro_shapes.py'
# a second OpenMP thread costs more than it brings on 64x64 images
ENV = {'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1'}


# a process that makes or checks a data set needs none of these, and starts in a moment without them
LIBRARIES = ('torch', 'timm', 'mmengine', 'mmcv', 'mmdet', 'mmseg')
WITHOUT_LIBRARIES = f'import sys\nfor name in {LIBRARIES}:\n    sys.modules[name] = None\n'


def running(tool: str) -> str:
    """Python that runs a tool with the arguments of its process."""
    path = TOOLS / f'{tool}.py'
    return (
        f'import runpy, sys\nsys.path.insert(0, {str(TOOLS)!r})\n'
        f'runpy.run_path({str(path)!r}, run_name="__main__")\n'
    )


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    def error_line(self) -> str:
        """The one line on stderr of a command that refused its input."""
        assert self.code == 2, f'exit code {self.code}\n{self.out[-2000:]}\n{self.err}'
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, self.err
        assert 'error: ' in lines[0]
        return lines[0]

    def ok(self) -> str:
        assert self.code == 0, f'exit code {self.code}\n{self.out[-2000:]}\n{self.err}'
        return self.out


def command(tool: str, *args: object) -> list[str]:
    return [str(TOOLS / f'{tool}.py'), *map(str, args)]


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, **ENV, **changes}


SERVERS: list[subprocess.Popen] = []


@cache
def fork_server(python: str, openmmlab: bool = True) -> str:
    """Address of a warm process that runs ``python``, an abstract one, which is no file.

    Whoever needs one first starts both, with OpenMMLab's packages imported and without, for all workers of
    this run. They end with the run.
    """
    run = os.getppid() if 'PYTEST_XDIST_WORKER' in os.environ else os.getpid()
    base = f'\0fork-server-{run}-{zlib.crc32(python.encode())}-'
    script = Path(__file__).with_name('fork_server.py')
    with ExitStack() as stack:
        fcntl.flock(stack.enter_context(open(script)), fcntl.LOCK_EX)
        listeners = [
            stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            for _ in range(2)
        ]
        try:
            for name, listener in zip((True, False), listeners):
                listener.bind(f'{base}{name}')
                listener.listen()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            numbers = [listener.fileno() for listener in listeners]
            elsewhere = {} if python == sys.executable else {'PYTHONPATH': ''}
            server = subprocess.Popen(
                [python, str(script), str(run), *map(str, numbers)],
                env=environment(**elsewhere),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=numbers,
            )
            SERVERS.append(server)
    return f'{base}{openmmlab}'


class Fork:
    """A script in a fork of a warm process; it can be waited for, signalled and killed.

    Without ``openmmlab`` it finds only torch, torchvision and timm imported.
    """

    def __init__(
        self,
        argv: list[str],
        cwd: Path,
        env: dict[str, str],
        stdin: int | None = None,
        session: bool = False,
        python: str = sys.executable,
        openmmlab: bool = True,
    ) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.connect(fork_server(python, openmmlab))
        self._streams = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        job = {'argv': argv, 'cwd': str(cwd), 'env': environment(**env), 'session': session}
        with open(os.devnull) as nothing:
            streams = [nothing.fileno() if stdin is None else stdin]
            streams += [stream.fileno() for stream in self._streams]
            socket.send_fds(self._socket, [json.dumps(job).encode()], streams)
        self.pid = int(self._socket.recv(99))

    def said(self) -> tuple[str, str]:
        """What it has written to stdout and stderr so far."""
        return tuple(
            os.pread(stream.fileno(), os.fstat(stream.fileno()).st_size, 0).decode()
            for stream in self._streams
        )

    def ended(self, within: float | None = None) -> bool:
        """Whether it ends within so many seconds."""
        return bool(select.select([self._socket], [], [], within)[0])

    def until(self, happened: Callable[[], bool]) -> None:
        """Wait for something that it does; an assertion fails if it ends before."""
        while not happened():
            assert not self.ended(within=0.05), self.wait()

    def wait(self) -> Result:
        code = int(self._socket.recv(99))
        result = Result(code, *self.said())
        self.close()
        return result

    def close(self) -> None:
        """Kill it if it still runs."""
        for resource in (self._socket, *self._streams):
            resource.close()


WARM = """#!{python} -SEs
import json, os, socket, sys

if os.environ.get('TRITON_INTERPRET'):  # which Triton reads when it is imported
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
arguments = [argument for argument in sys.argv[1:] if argument != '-u']
job = dict(argv=arguments, cwd=os.getcwd(), env=dict(os.environ), session=False)
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect({server!r})
    socket.send_fds(server, [json.dumps(job).encode()], [0, 1, 2])
    server.recv(99)
    sys.exit(int(server.recv(99)))
"""


def warm_python(folder: Path) -> Path:
    """A program in ``folder`` that is called like Python, and starts forks of the warm process."""
    path = folder / 'python'
    path.write_text(WARM.format(python=sys.executable, server=fork_server(sys.executable)))
    path.chmod(0o755)
    return path


class Tools:
    """Runs tools: :meth:`fresh` in a new Python process, the others in a fork of a warm one.

    With the ``bin`` of an environment, the latter is its Python, and runs its ``weightformer-mm``.
    """

    def __init__(
        self, folder: Path, env: dict[str, str] | None = None, bin: Path | None = None
    ) -> None:
        self.folder = folder
        self.env = env or {}
        self.bin = bin

    def fresh(self, tool: str, *args: object, env: dict[str, str] | None = None) -> Result:
        done = subprocess.run(
            [sys.executable, *command(tool, *args)],
            cwd=self.folder,
            env=environment(**self.env, **(env or {})),
            capture_output=True,
            text=True,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def start(
        self, tool: str, *args: object, env: dict[str, str] | None = None, **more: object
    ) -> Fork:
        argv = command(tool, *args)
        if self.bin:
            argv = [str(self.bin / 'weightformer-mm'), tool, *argv[1:]]
            more['python'] = str(self.bin / 'python')
        return Fork(argv, self.folder, {**self.env, **(env or {})}, **more)

    def run(self, tool: str, *args: object, env: dict[str, str] | None = None) -> Result:
        return self.start(tool, *args, env=env).wait()


# quicker than a step of Muon, with which test_resume.py and the demo's test train
ADAMW = {
    'optim_wrapper.optimizer._delete_': True,
    'optim_wrapper.optimizer.type': 'AdamW',
    'optim_wrapper.optimizer.lr': 1e-3,
    'optim_wrapper.optimizer.weight_decay': 0.05,
}


def options(task: Path, root: Path, **changes: object) -> list[str]:
    """``--cfg-options`` that point a Shapes config at ``root`` and make its training short and quick.

    In ``changes``, ``__`` stands for the dot.
    """
    values: dict[str, object] = {
        f'{split}_dataloader.dataset.data_root': f'{root}/' for split in ('train', 'val', 'test')
    }
    if task == DETECTION:
        for split in ('val', 'test'):
            values[f'{split}_evaluator.ann_file'] = f'{root}/annotations/instances_val.json'
    values.update(
        {
            'train_dataloader.batch_size': 4,
            'train_cfg.max_epochs': 1,
            'train_cfg.val_interval': 1,
            'default_hooks.logger.interval': 1,
            **ADAMW,
        }
    )
    values.update({key.replace('__', '.'): value for key, value in changes.items()})
    return ['--cfg-options', *(f'{key}={value}' for key, value in values.items())]


@dataclass(frozen=True)
class Run:
    """A finished training."""

    config: Path
    data: Path
    work_dir: Path
    result: Result

    @property
    def checkpoint(self) -> Path:
        return self.work_dir / 'epoch_1.pth'

    def options(self, **changes: object) -> list[str]:
        return options(self.config, self.data, **changes)


def train_once(
    folder: Path, run: Callable[..., Result], config: Path, data: Path, name: str
) -> Run:
    """Train a config for one epoch, unless another process that shares ``folder`` has done so."""
    work_dir, record = folder / name, folder / f'{name}.json'
    with FileLock(folder / f'{name}.lock'):
        if not record.exists():
            result = run('train', config, '--work-dir', work_dir, *options(config, data))
            result.ok()
            record.write_text(json.dumps([str(data), asdict(result)]))
        data, result = json.loads(record.read_text())
    return Run(config, Path(data), work_dir, Result(**result))


# drop path draws random numbers in every iteration, so a run that resumes wrongly ends with other weights
_HARMED = """
import sys

sys.path.insert(0, {folder!r})
_base_ = [{base!r}]
custom_imports = dict(imports=['weightformer_mm', 'harm'])
custom_hooks = [dict(type='HarmHook')]
model = dict(backbone=dict(drop_path_rate=0.5))
train_dataloader = dict(
    batch_size=2,
    num_workers={workers},
    persistent_workers={workers} > 0,
    dataset=dict(data_root={root!r}),
)
"""
_EVALUATION = """
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root={root!r}))
"""
_OF_DETECTION = """
val_evaluator = dict(ann_file={annotations!r})
"""
# the same in a config
QUICK = """
optim_wrapper = dict(_delete_=True, type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3))
"""
_NONE = '{0}_cfg = {0}_dataloader = {0}_evaluator = None\n'


def harmed_config(base: Path, data: Path, workers: int = 0, evaluates: bool = False) -> str:
    """Text of a config whose trainings do what ``harm.py`` is told; 4 iterations an epoch."""
    names = {
        'folder': str(Path(__file__).parent),
        'base': str(base),
        'workers': workers,
        'root': f'{data}/',
        'annotations': f'{data}/annotations/instances_val.json',
    }
    evaluation = _EVALUATION + (_OF_DETECTION if base == DETECTION else '')
    text = _HARMED + (evaluation if evaluates else _NONE.format('val')) + _NONE.format('test')
    return text.format(**names)


def differing_weights(first: Path, second: Path) -> list[str]:
    """Names of the weights of two checkpoints that are not bit-equal, or in one of them alone."""
    one, other = (torch.load(path, weights_only=True)['state_dict'] for path in (first, second))
    both = one.keys() & other.keys()
    unequal = {name for name in both if not torch.equal(one[name], other[name])}
    return sorted(unequal | (one.keys() ^ other.keys()))
