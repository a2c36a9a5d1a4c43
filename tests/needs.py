"""What some tests need beyond the oldest versions that the package supports: marks that say it."""

from __future__ import annotations

import pytest
import torch

from weightformer_mm.ops.compat import HAS_CUSTOM_OPS, triton_obstacle, triton_version

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
# torch 2.1 has neither autocast nor products in float16 on a CPU, torch 2.2 no norms
float16 = pytest.param(
    torch.float16,
    marks=pytest.mark.skipif(
        torch.__version__ < (2, 3), reason='needs float16 on a CPU, torch >= 2.3'
    ),
)
