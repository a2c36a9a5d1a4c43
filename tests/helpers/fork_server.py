"""Runs command lines in forks of a process that has the slow imports behind it.

Each job is a process of its own, with its own exit code, streams, environment and working directory; only
the time that Python takes to import torch and the libraries, and to take itself down again, is saved.

Jobs come to a Unix socket, in JSON and with their three streams; back go the number of the process and, when
it has ended, its exit code. It is killed when whoever asked for it is gone. The server ends
with the test run.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import sys
import traceback
import weakref
from contextlib import suppress


def use_environment(env: dict[str, str]) -> None:
    """Do what Python and huggingface_hub do with the environment as they start."""
    os.environ.clear()
    os.environ.update(env)
    importlib.reload(sys.modules['huggingface_hub.constants'])
    folders = [f for f in env.get('PYTHONPATH', '').split(os.pathsep) if f not in sys.path[1:]]
    sys.path[1:1] = folders
    for folder in filter(None, folders):
        with suppress(FileNotFoundError):
            runpy.run_path(os.path.join(folder, 'sitecustomize.py'))


def run_child(job: dict, streams: list[int]) -> int:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(job['cwd'])
    if job['session']:
        os.setsid()
    use_environment(job['env'])
    sys.argv = job['argv']
    try:
        if sys.argv[0] == '-m':
            del sys.argv[0]
            runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)
        else:
            sys.path[0] = os.path.dirname(sys.argv[0])
            runpy.run_path(sys.argv[0], run_name='__main__')
    except SystemExit as exit:
        return exit.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def start(connection: socket.socket) -> int:
    """Run the job that comes in a process of its own, whose number is sent back."""
    text, streams, *_ = socket.recv_fds(connection, 1 << 20, 3)
    child = os.fork()
    if child == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        code = run_child(json.loads(text), streams)
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    for stream in streams:
        os.close(stream)
    connection.send(str(child).encode())
    return child


def import_torch() -> None:
    import huggingface_hub.constants  # noqa: F401
    import timm.layers  # noqa: F401
    import torch.distributed.fsdp
    import torch.distributed.optim  # noqa: F401


def import_openmmlab() -> None:
    import mmcv.ops  # noqa: F401
    import setuptools  # noqa: F401
    from mmengine.config import Config
    from yapf.yapflib import yapf_api

    import weightformer_mm.apis.inferencer  # noqa: F401
    import weightformer_mm.apis.test  # noqa: F401

    for library in ('mmdet', 'mmseg', 'mmpretrain'):
        for part in ('models', 'datasets', 'engine', 'evaluation', 'visualization'):
            importlib.import_module(f'{library}.{part}')
    # yapf would take most of a short run; what it leaves alone is Python as well
    yapf_api.FormatCode = lambda text, **options: (text, True)
    Config({'warm': 'up'}).pretty_text  # noqa: B018


def is_own(connection: socket.socket) -> bool:
    """Whether this user asks."""
    _, user, _ = struct.unpack(
        '3i', connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    )
    return user == os.getuid()


def serve(listener: socket.socket, run: int) -> None:
    """Take jobs until the process ``run`` has ended."""
    gc.freeze()
    for finalizer in list(weakref.finalize._registry):  # torch's of its operators take a fork 0.2 s
        finalizer.atexit = False
    ends = os.pidfd_open(run)
    running: dict[int, socket.socket] = {}
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    while True:
        ready, _, _ = select.select([listener, ends, woken, *running.values()], [], [])
        if woken in ready:
            os.read(woken, 1 << 12)
        while running and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] in running:  # and not the other server
                with running.pop(ended[0]) as connection, suppress(BrokenPipeError):
                    connection.send(str(os.waitstatus_to_exitcode(ended[1])).encode())
        if ends in ready:
            return
        for child, connection in running.items():
            if connection in ready:  # the client is gone
                os.kill(child, signal.SIGKILL)
        if listener in ready:
            connection, _ = listener.accept()
            if is_own(connection):
                running[start(connection)] = connection


def main(run: int, *numbers: int) -> None:
    """Numbers of the process of the test run, and of sockets that listen: with OpenMMLab and without."""
    gc.disable()  # imports leave no garbage
    import_torch()
    whole, part = (socket.socket(fileno=number) for number in numbers)
    if os.fork() == 0:
        whole.close()
        listener = part
    else:
        part.close()
        import_openmmlab()
        listener = whole
    gc.enable()
    serve(listener, run)


if __name__ == '__main__':
    main(*map(int, sys.argv[1:]))
