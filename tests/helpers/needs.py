"""What some tests need beyond the oldest versions that the package supports: marks that say it."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch

from weightformer_mm.ops._shared.compat import HAS_CUSTOM_OPS, triton_obstacle, triton_version

TRITON_OBSTACLE = triton_obstacle()
if TRITON_OBSTACLE is None and triton_version() < (3, 4):
    TRITON_INTERNALS_OBSTACLE = 'needs triton.knobs, Triton >= 3.4'
else:
    TRITON_INTERNALS_OBSTACLE = TRITON_OBSTACLE

custom_operators = pytest.mark.skipif(
    not HAS_CUSTOM_OPS, reason='needs custom operators, torch >= 2.4'
)
triton = pytest.mark.skipif(TRITON_OBSTACLE is not None, reason=str(TRITON_OBSTACLE))
# tests that compile without a GPU, or interpret, reach into Triton
triton_internals = pytest.mark.skipif(
    TRITON_INTERNALS_OBSTACLE is not None, reason=str(TRITON_INTERNALS_OBSTACLE)
)
sharding_on_cpu = pytest.mark.skipif(
    torch.__version__ < (2, 2), reason='needs FSDP on a CPU, torch >= 2.2'
)
# torch 2.1 has neither autocast nor products in float16 on a CPU, torch 2.2 no norms
float16 = pytest.param(
    torch.float16,
    marks=pytest.mark.skipif(
        torch.__version__ < (2, 3), reason='needs float16 on a CPU, torch >= 2.3'
    ),
)


def locked(*packages: str) -> pytest.MarkDecorator:
    """For what follows from the exact versions of ``packages``: those of requirements/lock.txt."""
    lock = Path(__file__).resolve().parents[2] / 'requirements' / 'lock.txt'
    pins = dict(re.findall(r'^(\S+)==(\S+)', lock.read_text(), re.MULTILINE))
    others = [f'{name} {pins[name]}' for name in packages if _installed(name) != pins[name]]
    return pytest.mark.skipif(bool(others), reason=f'needs {", ".join(others)} of the lock')


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
