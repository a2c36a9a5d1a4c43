"""Version checks for newer parts of PyTorch and Triton: the package runs with torch 2.1 and later."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch

# torch >= 2.4: operators that torch.compile keeps whole
HAS_CUSTOM_OPS = hasattr(torch.library, 'custom_op')
# on other devices, torch 2.1 refuses even to switch off autocast
AUTOCAST_DEVICES = ('cpu', 'cuda', 'xpu')
# the first Triton that compiles every kernel of this package; Triton 2 aborts the process on some
LEAST_TRITON = (3, 0)

# PyTorch's own functions, unwrapped, where they exist

is_compiling: Callable[[], bool] = getattr(torch.compiler, 'is_compiling', None) or (
    torch._dynamo.is_compiling
)
is_dynamo_compiling: Callable[[], bool] = getattr(
    torch.compiler, 'is_dynamo_compiling', is_compiling
)
# torch >= 2.7
HAS_EXPORT_FLAG = hasattr(torch.compiler, '_is_exporting_flag')

if hasattr(torch, 'get_autocast_dtype'):  # torch >= 2.4
    autocast_enabled: Callable[[str], bool] = torch.is_autocast_enabled
    autocast_dtype: Callable[[str], torch.dtype] = torch.get_autocast_dtype
else:
    _ENABLED = {'cpu': torch.is_autocast_cpu_enabled}
    _DTYPE = {'cpu': torch.get_autocast_cpu_dtype}

    def autocast_enabled(device_type: str) -> bool:
        return _ENABLED.get(device_type, torch.is_autocast_enabled)()

    def autocast_dtype(device_type: str) -> torch.dtype:
        return _DTYPE.get(device_type, torch.get_autocast_gpu_dtype)()


def triton_version() -> tuple[int, int] | None:
    """Major and minor version of the installed Triton, or None; read as text, without importing it."""
    spec = find_spec('triton')
    if spec is None or spec.origin is None:
        return None
    pattern = r"^__version__ = ['\"](\d+)\.(\d+)"
    found = re.search(pattern, Path(spec.origin).read_text(), re.MULTILINE)
    return (int(found[1]), int(found[2])) if found else None


def triton_obstacle() -> str | None:
    """Why no Triton here can compile the kernels; None if one can."""
    if not HAS_CUSTOM_OPS:
        return 'the kernels need PyTorch >= 2.4'
    version = triton_version()
    if version is None:
        return 'Triton is not installed'
    if version < LEAST_TRITON:
        least, found = ('.'.join(map(str, numbers)) for numbers in (LEAST_TRITON, version))
        return f'the kernels need Triton >= {least}, installed is {found}'
    return None
