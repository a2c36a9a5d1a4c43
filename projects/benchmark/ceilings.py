"""The most that the machine reaches: in a large matrix product, and in a large copy."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from weightformer_mm.errors import UserError

from .clock import clock_of
from .steps import DTYPES, Step

REPEATS, MORE_REPEATS = 10, 3  # in the first and in every further measurement of a run
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


class CeilingGauge:
    """Measures both repeatedly in the course of a run: the fastest so far is the ceiling.

    A single measurement could meet a moment when the machine is busy with something else.

    Args:
        dtype: of the inputs of the matrix product, without autocast.
        side: of the square matrices; default 2048 on a CPU, 8192 on a GPU.
        size: of the copy in bytes; default 2^28 on a CPU, 2^31 on a GPU.
    """

    def __init__(
        self, device: torch.device, dtype: str, side: int | None = None, size: int | None = None
    ):
        self.device, self.dtype = device, dtype
        self.side = side or _MATMUL_SIDE[device.type]
        self.numbers = (size or _COPY_BYTES[device.type]) // 4
        self._product_ms = self._copy_ms = float('inf')

    def measure(self) -> Ceilings:
        """The ceilings after some more repeats.

        Raises:
            UserError: no matrix product in this dtype on this device.
        """
        repeats = REPEATS if self._copy_ms == float('inf') else MORE_REPEATS
        clock = clock_of(self.device)
        try:
            self._product_ms = min(self._product_ms, *clock.time(self._product(), repeats))
        except RuntimeError as error:
            if 'not implemented' not in str(error):
                raise
            raise UserError(f'--dtype {self.dtype}: {error} on {self.device.type!r}') from error
        self._copy_ms = min(self._copy_ms, *clock.time(self._copy(), repeats))
        moved = 2 * self.numbers * 4  # read and written
        return Ceilings(self.side**3 / self._product_ms * 1e3, moved / self._copy_ms * 1e3)

    def _product(self) -> Step:
        generator = torch.Generator().manual_seed(0)
        left, right = torch.randn(2, self.side, self.side, generator=generator).to(
            self.device, DTYPES[self.dtype]
        )
        product = torch.empty_like(left)
        return Step(lambda: torch.mm(left, right, out=product))

    def _copy(self) -> Step:
        source = torch.ones(self.numbers, device=self.device)
        target = torch.zeros_like(source)
        return Step(lambda: target.copy_(source))
