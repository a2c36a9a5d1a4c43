"""What a row says about where it was measured, and how much memory is left there."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import torch

from weightformer_mm.errors import UserError

COMMIT = 'WEIGHTFORMER_COMMIT'  # environment variable
_CGROUPS = (  # of version 2, then version 1
    ('memory.max', 'memory.current'),
    ('memory/memory.limit_in_bytes', 'memory/memory.usage_in_bytes'),
)


def resolve_device(name: str) -> torch.device:
    """``'auto'`` is the first GPU if there is one; a GPU comes with its index.

    Raises:
        UserError: no such device.
    """
    if name == 'auto':
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f'--device {name}: expected auto, cpu, cuda or cuda:N') from error
    if device.type not in ('cpu', 'cuda'):
        raise UserError(f'--device {name}: expected auto, cpu, cuda or cuda:N')
    if device.type == 'cpu':
        return device
    index = device.index or 0
    if index >= torch.cuda.device_count():
        raise UserError(f'--device {name}: PyTorch sees {torch.cuda.device_count()} GPUs')
    return torch.device('cuda', index)


def describe(device: torch.device) -> dict[str, str | int]:
    """The cells of a row that are the same throughout a run."""
    return {
        'commit': commit(),
        'device': device_name(device),
        'threads': torch.get_num_threads(),
        'torch': torch.__version__,
        'triton': _version('triton'),
        'timm': _version('timm'),
        'mmdet': _version('onedl-mmdetection') or _version('mmdet'),
    }


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec='seconds')


def commit() -> str:
    """Commit of this package's checkout, with ``+dirty`` if files differ from it.

    The environment variable ``WEIGHTFORMER_COMMIT``, if it is set, counts instead; empty outside a checkout.
    """
    if given := os.environ.get(COMMIT):
        return given
    here = Path(__file__).resolve()
    if not _git('ls-files', '--error-unmatch', here.name):
        return ''
    changes = _git('status', '--porcelain', '--untracked-files=no', '--', ':/')
    return _git('rev-parse', 'HEAD') + ('+dirty' if changes else '')


def _git(*arguments: str) -> str:
    folder = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ['git', '-C', str(folder), *arguments], capture_output=True, text=True
        )
    except FileNotFoundError:  # no git here
        return ''
    return done.stdout.strip() if done.returncode == 0 else ''


def device_name(device: torch.device) -> str:
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    for line in _lines('/proc/cpuinfo'):
        key, _, value = line.partition(':')
        if key.strip() == 'model name':
            return value.strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ''


def available_memory() -> int | None:
    """Bytes that processes can still take from the machine or this control group; None if unknown."""
    return min(_limits(), default=None)


def _limits() -> Iterator[int]:
    for line in _lines('/proc/meminfo'):
        if line.startswith('MemAvailable:'):
            yield int(line.split()[1]) * 1024
    for limit, usage in _CGROUPS:
        values = [''.join(_lines(f'/sys/fs/cgroup/{name}')).strip() for name in (limit, usage)]
        if all(value.isdigit() for value in values):
            yield max(0, int(values[0]) - int(values[1]))


def _lines(path: str) -> list[str]:
    """The lines of a file; none where the system has no such file."""
    try:
        return Path(path).read_text(encoding='utf-8').splitlines()
    except OSError:
        return []
