"""What the machine reaches at most: a large matrix product, and a large copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ...engine.errors import UserError
from .clock import clock_of
from .steps import DTYPES, Step

REPEATS = 10
_MATMUL_SIDE = {'cpu': 2048, 'cuda': 8192}
_COPY_BYTES = {'cpu': 2**28, 'cuda': 2**31}


@dataclass(frozen=True)
class Ceilings:
    """Multiply-adds per second of the fastest matrix product, bytes per second of the fastest copy."""

    multiply_adds_per_s: float
    bytes_per_s: float

    def cells(self) -> dict[str, float]:
        return {
            'matmul_tera_multiply_adds_per_s': self.multiply_adds_per_s / 1e12,
            'copy_gb_per_s': self.bytes_per_s / 1e9,
        }

    def least_seconds(self, multiply_adds: float, moved: float) -> float:
        """The least time that both ceilings allow for some work."""
        return max(multiply_adds / self.multiply_adds_per_s, moved / self.bytes_per_s)


def measure_ceilings(
    device: torch.device, dtype: str, side: int | None = None, size: int | None = None
) -> Ceilings:
    """Measure both.

    Args:
        dtype: of the matrix product; of the inputs, without autocast.
        side: of the square matrices; default 2048 on a CPU, 8192 on a GPU.
        size: of the copy in bytes; default 2^28 on a CPU, 2^31 on a GPU.

    Raises:
        UserError: no matrix product in this dtype on this device.
    """
    side = side or _MATMUL_SIDE[device.type]
    size = size or _COPY_BYTES[device.type]
    generator = torch.Generator().manual_seed(0)
    left, right = (
        torch.randn(side, side, generator=generator).to(device, DTYPES[dtype]) for _ in range(2)
    )
    product = torch.empty_like(left)
    source = torch.ones(size // 4, device=device)
    target = torch.zeros_like(source)
    try:
        product_ms = _fastest(device, lambda: torch.mm(left, right, out=product))
    except RuntimeError as error:
        if 'not implemented' not in str(error):
            raise
        raise UserError(f'--dtype {dtype}: {error} on {device.type!r}; choose another') from error
    copy_ms = _fastest(device, lambda: target.copy_(source))
    moved = 2 * source.numel() * source.element_size()
    return Ceilings(side**3 / product_ms * 1e3, moved / copy_ms * 1e3)


def _fastest(device: torch.device, run: Callable[[], object]) -> float:
    clock = clock_of(device)
    step = Step(run)
    clock.time(step, 2)
    return min(clock.time(step, REPEATS))
